"""The name that programs import from `autogen.agentchat.assistant_agent`."""

from __future__ import annotations

from wherry.compat.autogen.conversable import AssistantAgent, ConversableAgent

__all__ = ["AssistantAgent", "ConversableAgent"]
