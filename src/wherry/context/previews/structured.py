"""JSON and JSON lines: keys, the types and sizes of the values, and the first entries."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from wherry.context.previews.kinds import Kind, Show, plain
from wherry.context.previews.text import head_and_tail

_BEGINNING = 200_000
"""Characters that are looked at of what is broken, has no end, or has too many entries."""
_MOST_KEYS = 40
_SAMPLE = 20
_DEEPEST = 200
_MOST_STEPS = 300_000
"""Entries that are counted: a second's work."""

_OPEN = re.compile(r'\s*(?:\{\s*["}]|\[\s*["\[\]{])')
_TOKEN = re.compile(r'\s*+(?:("(?:[^"\\]++|\\.)*+")|([{\[])|([}\]])|(,)|(:)|([^\s{}\[\],:"]++))', re.DOTALL)
_BLANKS = frozenset(" \t\n\r")
_BLANK = re.compile(r"[ \t\n\r]*")
_scan = cast("Any", json.JSONDecoder()).scan_once  # what `raw_decode` calls, a quarter quicker for small values


@dataclass(frozen=True, slots=True)
class _Counted:
    """A container of which only the first entries are kept."""

    first: list[object] | dict[str, object]
    count: int


def accepts(text: str) -> bool:
    start, end = text[:200].lstrip()[:1], text[-200:].rstrip()[-1:]
    return (start, end) in (("{", "}"), ("[", "]")) or _OPEN.match(text[:200]) is not None


def read(text: str) -> Show:
    value, note = _read(text)
    if value is None:
        return plain(text)
    shapes = [f"{note}: {_shape(value, depth)}" for depth in (4, 3, 2, 1, 0)]

    def show(room: int) -> str:
        shape = next((shape for shape in shapes if len(shape) <= room // 2), None)
        if shape is None:
            shape = head_and_tail(shapes[-1], room // 2)
        return f"{shape}\n{head_and_tail(text, room - len(shape) - 1)}"

    return show


def _read(text: str) -> tuple[object, str]:
    """What a text is made of, and what to say before it; None where it is no JSON."""
    try:
        return _Reader(text).whole(), "shape"
    except (ValueError, RecursionError, IndexError):
        pass
    lines = _first_lines(text)
    if lines is not None:
        count = text.count("\n") + (not text.endswith("\n"))
        return lines, f"{count:,} lines of JSON; shape of the first ones"
    return _beginning(text), "broken, without an end or with very many entries; shape of its beginning"


class _Reader:
    """Reads JSON entry by entry where it is large.

    `json.loads` of 10 MB lets nothing else run for up to 2 s and takes 200 MB (CPython 3.11, 2 cores). Here the entries
    of the outer containers are decoded one at a time, counted, and all but the first dropped.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._steps = 0

    def whole(self) -> object:
        """
        Raises:
            ValueError, IndexError, RecursionError: It is no JSON that can be read, or has too many entries.
        """
        value = self._value(0)
        self._skip()
        if self._at < len(self._text):
            raise ValueError("more than one value")
        return value

    def _value(self, depth: int) -> object:
        self._skip()
        opening = self._text[self._at]
        # Objects are followed down to the long list in them; what is in a list is decoded at once.
        if opening == "[" and depth < 5:
            return self._list()
        if opening == "{" and depth < 4:
            return self._object(depth)
        return self._decoded()

    def _list(self) -> _Counted:
        first: list[object] = []
        count = 0
        while self._more("[" if count == 0 else ",", "]"):
            value = self._decoded()
            count += 1
            if count <= _SAMPLE:
                first.append(value)
        return _Counted(first, count)

    def _object(self, depth: int) -> _Counted:
        first: dict[str, object] = {}
        count = 0
        while self._more("{" if count == 0 else ",", "}"):
            key = self._decoded()
            self._expect(":")
            value = self._value(depth + 1)
            count += 1
            if not isinstance(key, str):
                raise ValueError("a key is no text")  # noqa: TRY004  it is the document that is wrong
            if len(first) < _MOST_KEYS:
                first[key] = value
        return _Counted(first, count)

    def _more(self, before: str, end: str) -> bool:
        """Step over `before`; whether an entry follows, or `end`, which is stepped over too."""
        self._skip()
        if self._text[self._at] == end and before == ",":
            self._at += 1
            return False
        self._expect(before)
        self._skip()
        if before != "," and self._text[self._at] == end:
            self._at += 1
            return False
        return True

    def _expect(self, mark: str) -> None:
        self._skip()
        if self._text[self._at] != mark:
            raise ValueError(f"no {mark} at {self._at}")
        self._at += 1

    def _decoded(self) -> object:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ValueError("too many entries")
        self._skip()
        try:
            value, self._at = cast("tuple[object, int]", _scan(self._text, self._at))
        except StopIteration as error:
            raise ValueError(f"no value at {self._at}") from error
        return value

    def _skip(self) -> None:
        if self._text[self._at : self._at + 1] in _BLANKS:
            found = _BLANK.match(self._text, self._at)
            if found is not None:
                self._at = found.end()


def _first_lines(text: str) -> list[object] | None:
    """The values of the first lines, if each line is one."""
    lines = text[:_BEGINNING].split("\n")
    if len(text) > _BEGINNING:
        lines.pop()
    values: list[object] = []
    for line in lines[:_SAMPLE]:
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
    if isinstance(value, _Counted):
        return _shape_of(value.first, value.count, depth)
    if isinstance(value, dict | list):
        held = cast("dict[str, object] | list[object]", value)
        return _shape_of(held, len(held), depth)
    if isinstance(value, str):
        return "text" if len(value) < 200 else f"text of {len(value):,} characters"
    if value is None:
        return "null"
    return "true/false" if isinstance(value, bool) else "whole number" if isinstance(value, int) else "number"


def _shape_of(held: dict[str, object] | list[object], count: int, depth: int) -> str:
    if isinstance(held, dict):
        if depth == 0:
            return f"object of {count:,} keys"
        items = list(held.items())[:_MOST_KEYS]
        shown = ", ".join(f"{key[:60]}: {_shape(item, depth - 1)}" for key, item in items)
        more = f", and {count - len(items):,} more keys" if count > len(items) else ""
        return "{" + shown + more + "}"
    if not held:
        return "[]"
    # The first entries stand for all: an exact union of a million shapes would say less.
    shapes = dict.fromkeys(_shape(item, depth - 1) for item in held[:_SAMPLE]) if depth else {"...": None}
    return f"[{count:,} x {' | '.join(list(shapes)[:3])}]"


KIND = Kind("application/json", accepts, read)
