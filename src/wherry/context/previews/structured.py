"""JSON and JSON lines: keys, the types and sizes of the values, and the first entries."""

from __future__ import annotations

import json
import re
from typing import cast

from wherry.context.previews.kinds import Kind, Show, plain
from wherry.context.previews.text import head_and_tail

_MOST_PARSED = 12_000_000
"""Characters that are parsed whole: parsing takes some ten bytes of memory for each, and half a second for all."""
_BEGINNING = 400_000
"""Characters that are looked at of what is longer, or broken further on."""
_MOST_KEYS = 40
_DEEPEST = 200

_OPEN = re.compile(r'\s*(?:\{\s*["}]|\[\s*["\[\]{])')
_TOKEN = re.compile(r'\s*+(?:("(?:[^"\\]++|\\.)*+")|([{\[])|([}\]])|(,)|(:)|([^\s{}\[\],:"]++))', re.DOTALL)


def accepts(text: str) -> bool:
    start, end = text[:200].lstrip()[:1], text[-200:].rstrip()[-1:]
    return (start, end) in (("{", "}"), ("[", "]")) or _OPEN.match(text[:200]) is not None


def read(text: str) -> Show:
    where = ""
    try:
        # Text behind the first value: lines of JSON, seen at once; the rest is not parsed for nothing.
        value: object = json.loads(text) if len(text) <= _MOST_PARSED else _beginning(text)
        where = "" if len(text) <= _MOST_PARSED else " (of its beginning)"
    except (ValueError, RecursionError):
        first = _first_lines(text)
        if first is not None:
            value, where = first, " (of its first lines)"
        else:
            value = _beginning(text)
            where = " (of its beginning; it is broken or has no end)"
    if value is None:
        return plain(text)
    lines = f"{text.count(chr(10)) + (not text.endswith(chr(10))):,} lines of JSON; " if "lines" in where else ""
    shapes = [f"{lines}shape{where}: {_shape(value, depth)}" for depth in (4, 3, 2, 1, 0)]

    def show(room: int) -> str:
        shape = next((shape for shape in shapes if len(shape) <= room // 2), None)
        if shape is None:
            shape = head_and_tail(shapes[-1], room // 2)
        return f"{shape}\n{head_and_tail(text, room - len(shape) - 1)}"

    return show


def _first_lines(text: str) -> list[object] | None:
    """The values of the first lines, if each line is one."""
    lines = text[:_BEGINNING].split("\n")
    if len(text) > _BEGINNING:
        lines.pop()
    values: list[object] = []
    for line in lines[:20]:
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            return None
    return values if len(values) > 1 else None


def _beginning(text: str) -> object:
    """What the first characters say, closed where they were cut; None where they are no JSON."""
    head = text[:_BEGINNING]
    open_: list[str] = []
    at, kept, closing = 0, 0, ""
    while (token := _TOKEN.match(head, at)) is not None and len(open_) <= _DEEPEST:
        at = token.end()
        if token[2]:
            open_.append("}" if token[2] == "{" else "]")
            continue
        if token[3]:
            if not open_ or open_.pop() != token[3]:
                break
        elif not token[4]:
            continue
        # Up to here, without the comma, every value is whole.
        kept, closing = (token.start() if token[4] else at), "".join(reversed(open_))
        if not open_:
            break
    try:
        return cast("object", json.loads(head[:kept] + closing))
    except (ValueError, RecursionError):
        return None


def _shape(value: object, depth: int) -> str:
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).items())
        if depth == 0:
            return f"object of {len(items):,} keys"
        shown = ", ".join(f"{key[:60]}: {_shape(item, depth - 1)}" for key, item in items[:_MOST_KEYS])
        more = f", and {len(items) - _MOST_KEYS:,} more keys" if len(items) > _MOST_KEYS else ""
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
