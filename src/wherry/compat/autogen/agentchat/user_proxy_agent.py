"""The name that programs import from `autogen.agentchat.user_proxy_agent`."""

from __future__ import annotations

from wherry.compat.autogen.conversable import ConversableAgent, UserProxyAgent

__all__ = ["ConversableAgent", "UserProxyAgent"]
