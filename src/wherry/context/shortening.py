"""Tool calls whose arguments are too large: their strings, lists and objects cut, the calls themselves whole."""

from __future__ import annotations

from typing import Any, cast

from wherry.context.previews import head_and_tail
from wherry.messages import ToolCall


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
