"""The names that programs import from `autogen.agentchat.agent`."""

from __future__ import annotations

from wherry.compat.autogen.core import Core as Agent

LLMAgent = Agent

__all__ = ["Agent", "LLMAgent"]
