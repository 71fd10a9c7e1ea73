"""The wire between host and session: a length of four bytes, then a JSON object.

Values are written as `inside.encoding` says. Everything from inside is hostile: a frame is parsed once, here, into a
typed record, or is a `FrameError`. Never pickle.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from .inside.arrays import Array, Table
from .inside.decoding import decode
from .inside.encoding import dumps

MAX_FRAME = 8 << 20
"""Bytes of a frame without its length. More is refused before it is read."""
MAX_DEPTH = 110
"""Nesting that a frame may have, so that no later reader of its values runs out of stack: a value's and some more."""
MAX_CONTAINERS = 500_000
"""Lists and objects in a frame: an empty one takes three bytes of it and sixty or more of the host's memory."""
MAX_READINGS = 1000
"""Of the clock, that a snippet may report."""
MAX_CALLS_TEXT = 200
_TO_BRACKET = re.compile(
    rb"""[^"\[{]*+ (?: "(?:[^"\\]++|\\.)*+(?:"|\\?\Z) [^"\[{]*+ )*+ (?: [\[{] | \Z )""", re.DOTALL | re.VERBOSE
)
"""Up to the next bracket outside of texts, or the end: it never fails, and so never looks at a byte twice."""
_LENGTH = struct.Struct("!I")


class FrameError(ValueError):
    """Bytes from inside that are no valid frame. The session that sent them is ended."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The session can take snippets."""

    trouble: str = ""
    """What went wrong while it was filled."""


@dataclass(frozen=True, slots=True)
class Call:
    """The snippet calls a tool and waits."""

    number: int
    name: str
    args: list[Any]  # Any: JSON and what `inside.encoding` adds to it
    kwargs: dict[str, Any]
    size: int = field(default=0, compare=False)
    """Bytes that it came in."""


@dataclass(frozen=True, slots=True)
class Final:
    """`final_answer` was called. What the snippet does afterwards changes nothing."""

    value: Any  # Any: as in `Call`


@dataclass(frozen=True, slots=True)
class Done:
    """A snippet ended."""

    run: int
    value: Any  # Any: as in `Call`
    has_value: bool
    kind: str | None
    error: str
    stdout: str
    stderr: str
    cpu_seconds: float
    clock: Mapping[str, list[int]] = field(default_factory=dict[str, list[int]])
    """What the snippet read of the clock: the clock's name, nanoseconds in order."""


Frame: TypeAlias = Ready | Call | Final | Done
DONE_KINDS = frozenset({"exception", "timeout", "memory"})


def encode(message: dict[str, Any]) -> bytes:  # Any: JSON
    """The bytes of one frame to the inside.

    Raises:
        FrameError: the message is larger than a frame may be.
        TypeError, ValueError, RecursionError: it is no JSON.
    """
    body = dumps(message).encode("utf-8", "surrogatepass")
    if len(body) > MAX_FRAME:
        raise FrameError(f"{len(body):,} bytes do not fit a frame of {MAX_FRAME:,}")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Collects bytes and gives out frames. Holds at most one frame and one read more."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def full(self) -> bool:
        """No more should be read before a frame was taken out."""
        return len(self._buffer) > MAX_FRAME + _LENGTH.size

    def next(self) -> Frame | None:
        """The next whole frame; None if there is none yet.

        Raises:
            FrameError: what came is no valid frame.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > MAX_FRAME:
            raise FrameError(f"a frame of {size:,} bytes; {MAX_FRAME:,} are allowed")
        end = _LENGTH.size + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return parse(body)


def parse(body: bytes) -> Frame:
    """The record in a frame's body.

    Raises:
        FrameError: it is none.
    """
    containers = body.count(b"[") + body.count(b"{")
    if containers > MAX_CONTAINERS:
        found = _TO_BRACKET.finditer(body)
        if next(itertools.islice(found, MAX_CONTAINERS + 1, None), None) is not None:
            raise FrameError(f"more than {MAX_CONTAINERS:,} lists and objects")
    try:
        raw: object = decode(body)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise FrameError(f"no JSON: {str(error)[:100]}") from None
    if not isinstance(raw, dict):
        raise FrameError("no JSON object")
    fields = cast("dict[str, object]", raw)
    if containers > MAX_DEPTH:
        _check_depth(fields)
    match fields.get("t"):
        case "ready":
            return Ready(str(fields.get("trouble", ""))[:500])
        case "call":
            return _call(fields, len(body))
        case "final":
            return Final(fields.get("value"))
        case "done":
            return _done(fields)
        case other:
            raise FrameError(f"unknown frame type {str(other)[:40]!r}")


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                held = cast("dict[object, object]", item)
                below += held.values()
                below += [key for key in held if not isinstance(key, str)]
            elif isinstance(item, list | tuple | set | frozenset):
                below += cast("list[object]", item)
            elif isinstance(item, Array):
                below += item.data if isinstance(item.data, list) else ()
            elif isinstance(item, Table):
                below += [*item.names, *item.columns, item.index]
        if not below:
            return
        level = below
    raise FrameError(f"nested deeper than {MAX_DEPTH}")


def _call(fields: dict[str, object], size: int) -> Call:
    number, name, args, kwargs = (fields.get(key) for key in ("n", "name", "args", "kw"))
    if type(number) is not int or not isinstance(name, str) or len(name) > MAX_CALLS_TEXT:
        raise FrameError("a tool call without a valid number and name")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise FrameError("a tool call whose arguments are no list and object")
    named = cast("dict[object, Any]", kwargs)
    if not all(isinstance(key, str) for key in named):
        raise FrameError("a tool call with an argument whose name is no text")
    return Call(number, name, cast("list[Any]", args), cast("dict[str, Any]", named), size)


def _done(fields: dict[str, object]) -> Done:
    run, kind, cpu = fields.get("id"), fields.get("kind"), fields.get("cpu", 0.0)
    texts = [fields.get(key, "") for key in ("error", "stdout", "stderr")]
    if type(run) is not int or not all(isinstance(text, str) for text in texts):
        raise FrameError("a result with fields of wrong types")
    if kind is not None and (not isinstance(kind, str) or kind not in DONE_KINDS):
        raise FrameError(f"a result of unknown kind {str(kind)[:40]!r}")
    if isinstance(cpu, bool) or not isinstance(cpu, int | float) or not 0 <= cpu < 1e9:
        raise FrameError("a result with an impossible processor time")
    error, stdout, stderr = cast("list[str]", texts)
    has_value, clock = fields.get("has_value") is True, _clock(fields.get("clock"))
    return Done(run, fields.get("value"), has_value, kind, error, stdout, stderr, float(cpu), clock)


def _clock(raw: object) -> dict[str, list[int]]:
    if raw is None:
        return {}
    readings = cast("dict[object, object]", raw) if isinstance(raw, dict) else {0: 0}
    out: dict[str, list[int]] = {}
    for name, found in readings.items():
        items = cast("list[object]", found) if isinstance(found, list) else [None]
        numbers = [item for item in items if type(item) is int and abs(item) < 1 << 63]
        if not isinstance(name, str) or len(numbers) != len(items):
            raise FrameError("readings of the clock that are none")
        out[name[:40]] = numbers
    if sum(map(len, out.values())) > MAX_READINGS or len(out) > MAX_READINGS:
        raise FrameError(f"more than {MAX_READINGS:,} readings of the clock")
    return out
