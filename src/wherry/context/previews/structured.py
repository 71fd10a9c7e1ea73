"""JSON: its keys, the types and sizes of its values, and its first entries."""

from __future__ import annotations

import json
from typing import cast

from wherry.context.previews.kinds import Kind, Show, plain
from wherry.context.previews.text import head_and_tail

_MOST_PARSED = 32_000_000
"""Characters beyond which parsing would hold up everything else for more than about half a second."""
_MOST_KEYS = 40


def accepts(text: str) -> bool:
    start, end = text[:200].lstrip()[:1], text[-200:].rstrip()[-1:]
    return (start, end) in (("{", "}"), ("[", "]"))


def read(text: str) -> Show:
    if len(text) > _MOST_PARSED:
        return plain(text)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return plain(text)
    shapes = [f"shape: {_shape(value, depth)}" for depth in (4, 3, 2, 1, 0)]

    def show(room: int) -> str:
        shape = next((shape for shape in shapes if len(shape) <= room // 2), None)
        if shape is None:
            shape = head_and_tail(shapes[-1], room // 2)
        return f"{shape}\n{head_and_tail(text, room - len(shape) - 1)}"

    return show


def _shape(value: object, depth: int) -> str:
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).items())
        if depth == 0:
            return f"object of {len(items)} keys"
        shown = ", ".join(f"{key[:60]}: {_shape(item, depth - 1)}" for key, item in items[:_MOST_KEYS])
        more = f", and {len(items) - _MOST_KEYS} more keys" if len(items) > _MOST_KEYS else ""
        return "{" + shown + more + "}"
    if isinstance(value, list):
        values = cast("list[object]", value)
        if not values:
            return "[]"
        # The first entries stand for all: an exact union of a million shapes would say less.
        shapes = dict.fromkeys(_shape(item, depth - 1) for item in values[:20]) if depth else {"...": None}
        return f"[{len(values):,} x {' | '.join(list(shapes)[:3])}]"
    if isinstance(value, str):
        return "text" if len(value) < 200 else f"text of {len(value):,} characters"
    if value is None:
        return "null"
    return "true/false" if isinstance(value, bool) else "whole number" if isinstance(value, int) else "number"


KIND = Kind("application/json", accepts, read)
