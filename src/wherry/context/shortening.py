"""Tool calls that are too large in any part: strings, lists and objects of the arguments cut, and what no server takes
(names and ids of any length, arguments of any depth) made such that it does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

from wherry.context.previews import head_and_tail
from wherry.messages import Message, ToolCall

LONGEST_NAME, LONGEST_ID = 128, 64
"""Characters. Providers take names and ids of 64; a model that loops writes a hundred thousand."""
DEEPEST = 64
"""Levels of lists and objects in arguments: what is read and written by recursion must not end a run."""
_TOLD = 200


def sized(message: Message) -> Message:
    """The message with a short name, short names and ids of its calls, and arguments of a bounded depth.

    The same id becomes the same short id wherever it stands, so that a result still answers its call.
    """
    name = message.name if message.name is None else _bounded(message.name, LONGEST_NAME)
    call_id = message.tool_call_id if message.tool_call_id is None else _bounded(message.tool_call_id, LONGEST_ID)
    calls = [_sized_call(call) for call in message.tool_calls]
    same = all(new is old for new, old in zip(calls, message.tool_calls, strict=True))
    if same and name is message.name and call_id is message.tool_call_id:
        return message
    return replace(message, name=name, tool_call_id=call_id, tool_calls=calls)


def _sized_call(call: ToolCall) -> ToolCall:
    call_id, name = _bounded(call.id, LONGEST_ID), _bounded(call.name, LONGEST_NAME)
    arguments = call.arguments if not is_deep(call.arguments) else {"left_out": _told(call.arguments)}
    if call_id is call.id and name is call.name and arguments is call.arguments:
        return call
    return ToolCall(call_id, name, arguments)


def _bounded(text: str, most: int) -> str:
    """A text of at most `most` characters; two that differ stay different."""
    if len(text) <= most:
        return text
    mark = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: most - len(mark) - 1]}-{mark}"


def is_deep(value: object) -> bool:
    """Whether a value has more than `DEEPEST` levels of lists and objects."""
    level = [value]
    for _ in range(DEEPEST):
        deeper: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                deeper += cast("Mapping[str, object]", item).values()
            elif isinstance(item, list | tuple):
                deeper += cast("list[object]", item)
        if not deeper:
            return False
        level = deeper
    return True


def _told(arguments: Mapping[str, object]) -> str:
    note = f"arguments nested more than {DEEPEST} deep"
    try:
        text = json.dumps(dict(arguments), ensure_ascii=False, default=str)
    except (RecursionError, ValueError):  # ValueError: they hold themselves
        return note
    return f"{note}: {head_and_tail(text, _TOLD)}"


def short_call(call: ToolCall, limit: int, *, where: str) -> ToolCall:
    """A call whose strings have about `limit` characters each, and its lists and objects an eighth as many entries.

    Args:
        where: Said in place of what is left out of a string: how the whole is to be had.
    """
    return ToolCall(call.id, call.name[:256], cast("dict[str, Any]", _short(dict(call.arguments), limit, where)))


def _short(value: object, limit: int, where: str) -> object:
    if isinstance(value, str):
        return head_and_tail(value, limit, where=where) if len(value) > limit else value
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).items())
        kept = {key[:limit]: _short(item, limit, where) for key, item in items[: max(limit // 8, 4)]}
        return kept if len(kept) == len(items) else {**kept, "...": f"{len(items) - len(kept)} more left out{where}"}
    if isinstance(value, list):
        values = cast("list[object]", value)
        short = [_short(item, limit, where) for item in values[: max(limit // 8, 4)]]
        left = len(values) - len(short)
        return [*short, f"... {left} more left out{where}"] if left else short
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > limit * 3:
        return f"a whole number of {value.bit_length()} bits, left out"
    return value
