"""Marks for a prompt cache that has to be told what to keep: Anthropic's, wherever its models run.

Other providers cache by themselves whatever requests have in common at their beginning. Anthropic keeps what stands
before a mark, for five minutes, and looks for the longest marked beginning that it knows. At most four marks are taken
(https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching, November 2026); a request has these:

* the last tool and the system prompt, which stay the same when turns are folded;
* the end of the request before, so that what was written then is found however many results came since;
* the end of this one, for the request after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

Body = dict[str, Any]  # Any: JSON, made here

_MARK = {"type": "ephemeral"}
_OWN = ("cache_control", "cache_control_injection_points")
"""Parameters by which a user says what is to be cached."""


def needs_marks(model_id: str) -> bool:
    """Whether a model is one of Anthropic's, by LiteLLM's name for it."""
    return model_id.startswith("anthropic/") or "claude" in model_id.lower()


def mark(body: Body) -> None:
    """Mark a chat completions body, unless the user does it by the settings."""
    if any(name in body for name in _OWN):
        return
    messages = cast("list[Body]", body["messages"])
    ends = {len(messages) - 1, _end_before(messages)}
    if messages[0]["role"] == "system":
        ends.add(0)
    for index in ends:
        if index >= 0:
            _mark_message(messages[index])
    if tools := cast("list[Body]", body.get("tools") or []):
        tools[-1]["cache_control"] = _MARK


def _end_before(messages: list[Body]) -> int:
    """Where the request before ended: its reply is the last thing that the model said."""
    said = (index for index in range(len(messages) - 1, -1, -1) if messages[index]["role"] == "assistant")
    return next(said, 0) - 1


def _mark_message(message: Body) -> None:
    content = message.get("content")
    if isinstance(content, list):
        last: Mapping[str, Any] = cast("list[Mapping[str, Any]]", content)[-1]
        message["content"] = [*cast("list[Mapping[str, Any]]", content)[:-1], {**last, "cache_control": _MARK}]
    elif content:  # an empty text cannot carry a mark
        message["cache_control"] = _MARK
