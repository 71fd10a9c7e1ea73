"""The deterministic summary: who called what with which arguments, and the head of each result.

It needs no model, cannot fail, and takes O(messages folded). Besides the heads it keeps what the task names: where a
result holds a number or an identifier of the task, the words around it stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.context.groups import Entry, Group
from wherry.messages import Message

_TERM = re.compile(r"[A-Za-z_][\w.-]{4,}|\d[\d.,:-]*\d|\d{2,}|[A-Z]{2,}")
_COMMON = re.compile(
    "about|after|again|before|could|first|please|should|their|there|these|thing|those|using|where|which|while|would|write",
    re.IGNORECASE,
)
_MOST_TERMS = 40
_HEAD, _CALL, _AROUND, _MOST_PLACES = 140, 120, 40, 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a summary."""

    text: str
    tokens: int
    named: bool = False
    """Whether it holds something that the task names: those are dropped last."""


def terms_of(task: str) -> tuple[str, ...]:
    """Numbers and identifiers that a task names, longest first: what an answer will most likely need exactly."""
    found = dict.fromkeys(term for term in _TERM.findall(task[:20_000]) if not _COMMON.fullmatch(term))
    return tuple(sorted(found, key=len, reverse=True)[:_MOST_TERMS])


def extract(groups: Iterable[Group], terms: Sequence[str]) -> list[tuple[str, bool]]:
    """Lines for what is folded away, oldest first, each with whether the task names something in it."""
    pattern = re.compile("|".join(re.escape(term) for term in terms)) if terms else None
    lines: list[tuple[str, bool]] = []
    for group in groups:
        for entry in group.entries:
            lines.extend(_lines(entry, pattern))
    return lines


def fitting(lines: Sequence[Line], room: int) -> list[Line]:
    """The lines that are kept in `room` tokens: the newest and those that the task names, in their order."""
    kept: set[int] = set()
    left = room
    for named in (True, False):
        # Named lines may take two thirds; the newest lines of the other kind say where the work stands.
        limit = left if not named else room * 2 // 3
        for index in range(len(lines) - 1, -1, -1):
            line = lines[index]
            if line.named is named and line.tokens <= limit:
                kept.add(index)
                limit -= line.tokens
                left -= line.tokens
    return [line for index, line in enumerate(lines) if index in kept]


def _lines(entry: Entry, pattern: re.Pattern[str] | None) -> Iterable[tuple[str, bool]]:
    message = entry.message
    text = _flat(message.content[:20_000])
    if text:
        head = text[:_HEAD]
        around = _around(text, pattern)
        said = f"{_speaker(message)}: {head}{'...' if len(text) > _HEAD else ''}"
        yield said + "".join(f" ...{part}..." for part in around), bool(around) or _names(head, pattern)
    for call in message.tool_calls:
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False, default=str)[:_CALL]
        yield f"called {call.name[:64]} {arguments}", _names(arguments, pattern)


def _speaker(message: Message) -> str:
    if message.role == "tool":
        return f"{(message.name or 'tool')[:64]} ->"
    return message.role if message.name is None else f"{message.role} {message.name[:64]}"


def _names(text: str, pattern: re.Pattern[str] | None) -> bool:
    return pattern is not None and pattern.search(text) is not None


def _around(text: str, pattern: re.Pattern[str] | None) -> list[str]:
    if pattern is None:
        return []
    places: list[str] = []
    end = _HEAD
    for found in pattern.finditer(text, _HEAD):
        if found.start() < end:
            continue
        end = found.end() + _AROUND
        places.append(text[max(found.start() - _AROUND, _HEAD) : end])
        if len(places) == _MOST_PLACES:
            break
    return places


def _flat(text: str) -> str:
    return " ".join(text.split())
