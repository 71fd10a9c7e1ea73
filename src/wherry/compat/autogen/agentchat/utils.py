"""The names that programs import from `autogen.agentchat.utils`: the module's own is not ours to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any  # Any: settings of chats

from wherry.compat.autogen.chats import gather_usage_summary

__all__ = ["consolidate_chat_info", "gather_usage_summary"]


def consolidate_chat_info(
    chat_info: Mapping[str, Any] | Sequence[Mapping[str, Any]], uniform_sender: Any = None
) -> None:
    """Look through chats of a queue before they begin.

    Args:
        chat_info: One, or several.
        uniform_sender: Who begins them all; else each says its `sender`.

    Raises:
        AssertionError: one has no sender or recipient, or its summary cannot be made.
    """
    chats = [chat_info] if isinstance(chat_info, Mapping) else [*chat_info]
    for chat in chats:
        sender = chat.get("sender") if uniform_sender is None else uniform_sender
        if sender is None:
            raise AssertionError("sender must be provided.")
        if chat.get("recipient") is None:
            raise AssertionError("recipient must be provided.")
        method: object = chat.get("summary_method")
        if not (method is None or callable(method) or method in ("last_msg", "reflection_with_llm")):
            raise AssertionError(
                "summary_method must be a string chosen from 'reflection_with_llm' or 'last_msg' or a callable, or "
                "None."
            )
        if method == "reflection_with_llm" and sender.client is None and chat["recipient"].client is None:
            raise AssertionError(
                "llm client must be set in either the recipient or sender when summary_method is reflection_with_llm."
            )
