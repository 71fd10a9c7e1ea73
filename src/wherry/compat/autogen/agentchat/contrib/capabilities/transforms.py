"""Ways to shorten messages that programs bring along. What is sent fits with them and without."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol, cast  # Any: contents of messages

from wherry.compat.autogen.messages import Dict, content_str
from wherry.compat.autogen.token_count_utils import cut, tokens_of


class MessageTransform(Protocol):
    """Makes other messages of messages, and says what it did."""

    def apply_transform(self, messages: list[Dict]) -> list[Dict]: ...

    def get_logs(self, pre_transform_messages: list[Dict], post_transform_messages: list[Dict]) -> tuple[str, bool]: ...


class MessageHistoryLimiter:
    """Keeps the newest messages.

    Args:
        max_messages: So many; None: all.
        keep_first_message: Whether the first one stays as well, as one of them.

    Raises:
        ValueError: none would stay.
    """

    def __init__(self, max_messages: int | None = None, keep_first_message: bool = False) -> None:
        if max_messages is not None and max_messages < 1:
            raise ValueError("max_messages must be None or greater than 1")
        self._most = max_messages
        self._first = keep_first_message

    def apply_transform(self, messages: list[Dict]) -> list[Dict]:
        """The messages that stay. Results are not the first of them: their calls would be missing."""
        if self._most is None or len(messages) <= self._most:
            return messages
        first = messages[:1] if self._first else []
        most = self._most - len(first)
        last = messages[-most:] if most else []
        while last and last[0].get("role") in ("tool", "function"):
            last = last[1:]
        return [*first, *last]

    def get_logs(self, pre_transform_messages: list[Dict], post_transform_messages: list[Dict]) -> tuple[str, bool]:
        before, after = len(pre_transform_messages), len(post_transform_messages)
        if after < before:
            return f"Removed {before - after} messages. Number of messages reduced from {before} to {after}.", True
        return "No messages were removed.", False


class MessageTokenLimiter:
    """Cuts messages, the oldest away.

    Args:
        max_tokens_per_message: Of one; None: any.
        max_tokens: Of all; None: any.
        min_tokens: Nothing is done below so many of all.
        model: Means nothing here: tokens are counted alike for all.
        filter_dict: Which messages, by the values of their fields: each field one of a list, or one value.
        exclude_filter: Whether those that match are left alone; else all others are.

    Raises:
        ValueError: a number below 0, or a least that is above the most.
    """

    def __init__(
        self,
        max_tokens_per_message: int | None = None,
        max_tokens: int | None = None,
        min_tokens: int | None = None,
        model: str = "gpt-3.5-turbo-0613",
        filter_dict: Mapping[str, Any] | None = None,
        exclude_filter: bool = True,
    ) -> None:
        for most in (max_tokens_per_message, max_tokens):
            if most is not None and most < 0:
                raise ValueError("max_tokens and max_tokens_per_message must be None or greater than or equal to 0")
        if min_tokens is not None and min_tokens < 0:
            raise ValueError("min_tokens must be None or greater than or equal to 0.")
        if min_tokens is not None and max_tokens is not None and min_tokens > max_tokens:
            raise ValueError("min_tokens must not be more than max_tokens.")
        self._each = sys.maxsize if max_tokens_per_message is None else max_tokens_per_message
        self._most = sys.maxsize if max_tokens is None else max_tokens
        self._least = min_tokens or 0
        self._filter = filter_dict
        self._exclude = exclude_filter

    def apply_transform(self, messages: list[Dict]) -> list[Dict]:
        """The messages that stay, cut."""
        if _tokens(messages) < self._least:
            return messages
        kept: list[Dict] = []
        left = self._most
        for message in reversed(messages):
            content = message.get("content")
            if not isinstance(content, str | list) or not content:
                kept.append(message)
                continue
            if not self._is_meant(message):
                kept.append(message)
                left -= tokens_of(content)
                continue
            room = min(self._each, left)
            kept.append({**message, "content": _cut(content, room)})
            if room < self._each:  # no room for a whole one: nothing older stays
                break
            left -= tokens_of(kept[-1]["content"])
        return kept[::-1]

    def _is_meant(self, message: Dict) -> bool:
        if not self._filter:
            return True
        matches = all(
            message.get(key) in (wanted if isinstance(wanted, list | tuple | set) else [wanted])
            for key, wanted in self._filter.items()
        )
        return not matches if self._exclude else matches

    def get_logs(self, pre_transform_messages: list[Dict], post_transform_messages: list[Dict]) -> tuple[str, bool]:
        before, after = _tokens(pre_transform_messages), _tokens(post_transform_messages)
        if after < before:
            return f"Truncated {before - after} tokens. Number of tokens reduced from {before} to {after}", True
        return "No tokens were truncated.", False


def _tokens(messages: list[Dict]) -> int:
    return sum(tokens_of(content_str(message.get("content"))) for message in messages)


def _cut(content: Any, most: int) -> Any:
    most = max(most, 0)
    if isinstance(content, str):
        return cut(content, most)
    return [
        {**part, "text": cut(str(part.get("text", "")), most)} if part.get("type") == "text" else part
        for part in cast("list[Dict]", content)
    ]
