"""The deterministic summary: who called what with which arguments, and the head of each result.

It needs no model, cannot fail, and takes O(messages folded). Besides the heads it keeps what the task names: where a
result holds a number or an identifier of the task, the words around it stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wherry.context.groups import Group
from wherry.context.untrusted import told
from wherry.messages import Message

_TERM = re.compile(r"[A-Za-z_][\w.-]{4,}|\d[\d.,:-]*\d|\d{2,}|[A-Z]{2,}")
_COMMON = re.compile(
    "about|after|again|before|could|first|please|should|their|there|these|thing|those|using|where|which|while|would|write",
    re.IGNORECASE,
)
_MOST_TERMS = 40
_LONGEST, _SHORTEST = 140, 40
"""Characters of a head."""
_CALL_TOKENS, _CHARACTERS = 14, 3.5
"""Of a usual call without its result, and to a token of usual text: a guess, by which heads are made."""
_CALL, _AROUND, _MOST_PLACES = 120, 40, 3
_READ = 20_000
"""Characters of a message that are looked through."""

_arguments = json.JSONEncoder(ensure_ascii=False, default=str).encode


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a summary."""

    text: str
    tokens: int
    named: bool = False
    """Whether it holds something that the task names: those are dropped last."""


def terms_of(task: str) -> tuple[str, ...]:
    """Numbers and identifiers that a task names, longest first: what an answer will most likely need exactly."""
    found = dict.fromkeys(term for term in _TERM.findall(task[:_READ]) if not _COMMON.fullmatch(term))
    return tuple(sorted(found, key=len, reverse=True)[:_MOST_TERMS])


class Extract:
    """Makes the lines for what is folded away.

    Args:
        terms: What the task names.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self._pattern = re.compile("|".join(re.escape(term) for term in terms)) if terms else None

    def lines(self, groups: Sequence[Group], room: int) -> list[tuple[str, bool]]:
        """Lines, oldest first, each with whether the task names something in it.

        Args:
            groups: The turns.
            room: Tokens that all of them should about take: where there are many, heads are shorter.
        """
        lines = sum(max(len(group.entries) // 2, 1) for group in groups)
        head = max(_SHORTEST, min(_LONGEST, int((room / lines - _CALL_TOKENS) * _CHARACTERS)))
        return [line for group in groups for line in self._turn(group, head)]

    def _turn(self, group: Group, head: int) -> Iterator[tuple[str, bool]]:
        results: dict[str | None, list[Message]] = {}
        for entry in reversed(group.entries):
            if entry.message.role == "tool":
                results.setdefault(entry.message.tool_call_id, []).append(entry.message)
        for entry in group.entries:
            message = entry.message
            if message.role == "tool":
                if (left := results.get(message.tool_call_id)) and left[-1] is message:  # its call is not in the turn
                    mark, text = told(left.pop())
                    yield self._said(f"{mark}{(message.name or 'tool')[:64]} ->", text, head)
                continue
            said = ""
            if message.content:
                mark, text = told(message)
                said = f"{mark}{_speaker(message)}: {text}"
                if len(text) > head or not message.tool_calls:
                    yield self._said(f"{mark}{_speaker(message)}:", text, head)
                    said = ""
            for call in message.tool_calls:
                arguments = _arguments(dict(call.arguments))[: min(_CALL, head)]
                said = f"{said} called {call.name[:64]} {arguments}".lstrip()
                answers = results.get(call.id)
                mark, result = told(answers.pop()) if answers else ("", "")
                yield self._said(f"{mark}{said} ->" if result else said, result, head)
                said = ""

    def names(self, text: str) -> bool:
        """Whether the task names something in a text."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def _said(self, who: str, content: str, head: int) -> tuple[str, bool]:
        if not content:
            return who, self.names(who)
        text = content[:head] if len(content) <= head else content[:head] + "..."
        around = self._around(content, head)
        if around and head < _LONGEST:
            return _flat(f"{who} ...{'... ...'.join(around)}..."), True
        said = _flat(f"{who} {text}")
        return _flat(said + "".join(f" ...{part}..." for part in around)), bool(around) or self.names(said)

    def _around(self, text: str, head: int) -> list[str]:
        if self._pattern is None or len(text) <= head:
            return []
        places: list[str] = []
        end = head
        for found in self._pattern.finditer(text, head, _READ):
            if found.start() < end:
                continue
            end = found.end() + _AROUND
            places.append(text[max(found.start() - _AROUND, head) : end])
            if len(places) == _MOST_PLACES:
                break
        return places


def fitting(lines: Sequence[Line], room: int, *, named_share: float = 2 / 3) -> list[Line]:
    """The lines that are kept in `room` tokens: the newest and those that the task names, in their order.

    Args:
        lines: Oldest first.
        room: Tokens.
        named_share: What those that the task names may take of it; the others say where the work stands.
    """
    kept: set[int] = set()
    left = room
    for named in (True, False):
        limit = left if not named else int(room * named_share)
        for index in range(len(lines) - 1, -1, -1):
            line = lines[index]
            if line.named is named and line.tokens <= limit:
                kept.add(index)
                limit -= line.tokens
                left -= line.tokens
    return [line for index, line in enumerate(lines) if index in kept]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _speaker(message: Message) -> str:
    return message.role if message.name is None else f"{message.role} {message.name[:64]}"
