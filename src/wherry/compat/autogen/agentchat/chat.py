"""The names that programs import from `autogen.agentchat.chat`."""

from __future__ import annotations

from wherry.compat.autogen.chats import ChatResult, a_initiate_chats, initiate_chats

__all__ = ["ChatResult", "a_initiate_chats", "initiate_chats"]
