"""Regular expressions that a model wrote, over content that somebody else wrote.

By RE2 (`google-re2`), whose time grows with the length of the text and never with its square: `(a+)+$` is no danger,
and there is no process to be started that could be killed. It gives up lookarounds and backreferences for that. It lets
go of the interpreter's lock while it searches. What is left to bound is its constant: an expression of 4,000
instructions took 48 us a byte (RE2 of 2025-11), so the size of the compiled expression is bounded, and content is
searched piece by piece until the time is up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from wherry.errors import ToolError

if TYPE_CHECKING:
    from re import Match

MOST_CHARS = 1_000
"""Characters of an expression."""
SECONDS = 5.0
"""What one search may take; then it says how far it came."""
_MOST_INSTRUCTIONS = 2_000
_PIECE, _LARGEST_PIECE = 32_768, 1 << 20
_OVERLAP = 4_096
"""Bytes that are looked at twice where a line is longer than a piece: a match of so many bytes is found there too."""
_QUICK = 0.01
_FLAGS = b"(?im)"


class Pattern(Protocol):
    """What both RE2's and Python's own compiled expressions can do."""

    def finditer(self, string: bytes, /) -> Iterator[Match[bytes]]: ...


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for."""

    pattern: Pattern
    literal: bool
    """Whether the query was taken letter by letter, because it is no expression that can be searched for."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A place where the query matches."""

    start: int
    """Byte in the whole content."""
    end: int


@dataclass(slots=True)
class Progress:
    """How far a search has come."""

    at: int
    """The byte up to which everything was searched."""
    out_of_time: bool = False


def compiled(query: str) -> Query:
    """The query as an expression over UTF-8, case-insensitive, `^` and `$` at lines; letter by letter if it is none.

    Raises:
        ToolError: It is empty, too long, or too large when compiled.
    """
    if not query.strip():
        raise ToolError("the query is empty")
    if len(query) > MOST_CHARS:
        raise ToolError(f"the query has {len(query):,} characters; at most {MOST_CHARS:,} can be searched for")
    data = query.encode("utf-8", "replace")
    try:
        import re2
    except ImportError:
        # No wheel for this machine: letters need no engine that resists bad expressions.
        return Query(_literal(data), True, "regular expressions need google-re2, which is not installed here")
    options = cast("Any", re2).Options()
    options.log_errors = False
    try:
        pattern = cast("Any", re2).compile(_FLAGS + data, options)
    except cast("type[Exception]", cast("Any", re2).error) as error:
        said = error.args[0] if error.args else error
        why = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return Query(_literal(data), True, why.replace(_FLAGS.decode(), ""))
    if pattern.fullmatch(b"") is not None:
        raise ToolError("the expression matches the empty text, which is everywhere: use + in place of *")
    if pattern.programsize > _MOST_INSTRUCTIONS:
        raise ToolError("the expression is too large: use fewer or smaller repetitions such as {1,100}")
    return Query(cast("Pattern", pattern), False)


def literal(query: str) -> Query:
    """The query letter by letter, case-insensitive."""
    return Query(_literal(query.encode("utf-8", "replace")), True)


def _literal(data: bytes) -> Pattern:
    # No repetition in it: Python's own engine is linear then, but for the length of the query.
    return re.compile(re.escape(data), re.IGNORECASE)


def matches(
    query: Query, read: Callable[[int, int], bytes], *, start: int, size: int, progress: Progress
) -> Iterator[Found]:
    """Where the query matches, in order, without overlaps and without empty matches.

    Args:
        read: `read(offset, limit)`: bytes of the content.
        start: Byte to start at.
        size: Bytes of the content.
        progress: Kept up to date.
    """
    deadline = time.monotonic() + SECONDS
    step, at, last = _PIECE, start, start
    while at < size:
        began = time.monotonic()
        if began > deadline:
            progress.out_of_time = True
            return
        data = read(at, step + _OVERLAP)
        whole = at + len(data) >= size
        end = len(data) if whole else _end(data, step)
        for match in query.pattern.finditer(data):
            if match.start() >= end:
                break
            if match.end() > match.start() and at + match.start() >= last:
                last = at + match.end()
                yield Found(at + match.start(), last)
        at += end
        progress.at = min(at, size)
        if not data:
            return
        if time.monotonic() - began < _QUICK:
            step = min(step * 2, _LARGEST_PIECE)


def _end(data: bytes, step: int) -> int:
    """Where the next piece begins: at a line's beginning if there is one, so that `^` means what it says."""
    newline = data.rfind(b"\n", step // 2, step)
    return newline + 1 if newline >= 0 else step
