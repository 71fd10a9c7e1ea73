"""The modules that programs import from `autogen.agentchat.contrib.capabilities`."""

from __future__ import annotations

from wherry.compat.autogen.agentchat.contrib.capabilities import transform_messages, transforms

__all__ = ["transform_messages", "transforms"]
