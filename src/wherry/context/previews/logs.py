"""Logs: the number of lines, the lines that tell of errors, the head and the tail."""

from __future__ import annotations

import re
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
    low = text.replace("\u0130", "i").lower()  # the one letter that becomes two, and would shift all that follows
    found = _Errors()
    places = {word: low.find(word) for word in _WORDS}
    places = {word: at for word, at in places.items() if at >= 0}
    line = 0  # where the line begins that was not looked at yet, or one before it
    while places and found.count < _MOST_COUNTED:
        word = min(places, key=places.__getitem__)
        at = places[word]
        if _alone(low, at, len(word)):
            start = max(low.rfind("\n", line, at) + 1, line)
            end = low.find("\n", at)
            line = len(low) if end < 0 else end
            found.count += 1
            start = max(start, at - _LINE // 2)  # of a huge line, the part that speaks of the error
            found.last = text[start : min(line, start + _LINE)].strip()
            if len(found.first) < _MOST_KEPT:
                found.first.append(found.last)
            behind = line
        else:
            behind = at + len(word)
        for other in [other for other, place in places.items() if place < behind]:
            place = low.find(other, behind)
            if place < 0:
                del places[other]
            else:
                places[other] = place
    return found


def _alone(low: str, at: int, size: int) -> bool:
    before, after = low[at - 1 : at], low[at + size : at + size + 1]
    return not (before.isalnum() or before == "_" or after.isalnum() or after == "_")


KIND = Kind("text/x-log", accepts, read)
