"""Logs: the number of lines, the lines that tell of errors, the head and the tail."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from wherry.context.previews.kinds import Kind, Show
from wherry.context.previews.text import head_and_tail

_STAMPED = re.compile(
    r"^\W?(\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|\w{3} [ \d]\d \d\d:|\[?(DEBUG|INFO|NOTICE|WARN(ING)?|ERROR|FATAL|CRITICAL)\b)"
)
_WORDS = ("error", "exception", "fatal", "critical", "failed", "panic", "traceback")
_LINE = 240
_MOST_KEPT = 400
_MOST_COUNTED = 100_000
"""Lines with errors: beyond it the preview says `or more`, so that ten megabytes of errors take no second."""
_FOLDED = 2_000_000
"""Characters that are looked through where making them lower case would shift what stands where."""


def accepts(text: str) -> bool:
    lines = [line for line in text[:20_000].splitlines()[:40] if line.strip()]
    return len(lines) >= 4 and sum(_STAMPED.match(line) is not None for line in lines) * 2 > len(lines)


@dataclass(slots=True)
class _Errors:
    first: list[str] = field(default_factory=list[str])
    last: str = ""
    count: int = 0


def read(text: str) -> Show:
    errors = _errors(text)
    lines = text.count("\n") + (0 if text.endswith("\n") else 1)
    more = " or more" if errors.count >= _MOST_COUNTED else ""
    head = f"{lines:,} lines, {errors.count:,}{more} with errors"

    def show(room: int) -> str:
        if not errors.count:
            return f"{head}\n{head_and_tail(text, room - len(head) - 1)}"
        shown: list[str] = []
        size = 0
        for line in errors.first:
            if size >= room // 3:
                break
            shown.append(line)
            size += len(line) + 1
        left = errors.count - len(shown)
        if left > 0:
            shown.append(f"[... {left - 1:,} more; the last one:]\n{errors.last}" if left > 1 else errors.last)
        told = head_and_tail("\n".join(shown), room // 2)
        return f"{head}:\n{told}\n---\n{head_and_tail(text, room - len(head) - len(told) - 6)}"

    return show


def _errors(text: str) -> _Errors:
    """The lines that tell of errors. Linear: `find` for each word, and no line is looked at twice."""
    low = text.lower()
    if len(low) != len(text):  # a few letters become two; then the original is searched, as far as that is quick
        text = text[:_FOLDED]
        low = "".join(mark.lower() if len(mark.lower()) == 1 else mark for mark in text)
    found = _Errors()
    end = -1  # of the line that was counted last
    for at, word in heapq.merge(*(_places(low, word) for word in _WORDS)):
        if at < end or not _alone(low, at, len(word)):
            continue
        start = low.rfind("\n", max(end, 0), at) + 1
        if start == 0:
            start = max(end, 0)
        end = low.find("\n", at)
        end = len(low) if end < 0 else end
        found.count += 1
        # Of a huge line, the part that speaks of the error.
        if at - start > _LINE // 2:
            start = at - _LINE // 2
        found.last = text[start : min(end, start + _LINE)].strip()
        if len(found.first) < _MOST_KEPT:
            found.first.append(found.last)
        if found.count >= _MOST_COUNTED:
            break
    return found


def _places(low: str, word: str) -> Iterator[tuple[int, str]]:
    at = low.find(word)
    while at >= 0:
        yield at, word
        at = low.find(word, at + len(word))


def _alone(low: str, at: int, size: int) -> bool:
    before, after = low[at - 1 : at], low[at + size : at + size + 1]
    return not (before.isalnum() or before == "_" or after.isalnum() or after == "_")


KIND = Kind("text/x-log", accepts, read)
