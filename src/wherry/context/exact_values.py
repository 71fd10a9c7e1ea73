"""The sentences of folded turns that hold something exact: what a summary in other words would lose.

A reference, an amount, a date, a path, an address, or a decision cannot be guessed again from the rest. Small models
leave some out of every summary, so these sentences are looked for without a model, in O(text). What comes again and
again with other numbers, as the lines of logs and tables do, says little by each of them: one of each shape is taken.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import islice

from wherry.context.groups import Group, entries_of
from wherry.context.untrusted import told

# Every repetition that another could begin anew is bounded: a text of 20,000 letters stays linear. What needs a sign to
# be there at all is looked for only where that sign stands: tried at every letter, it is most of the time.
_MAIL = r"[\w.+-]{1,64}@[\w-]+\.[\w.-]+\w"
_PATH = r"\b[a-z]+://[^\s\"'<>]+|(?<![\w/])(?:~|\.{1,2})?/[\w.-]+(?:/[\w.-]+)+"
_NUMBER = (
    # a reference: letters and digits
    r"\b(?=[A-Z0-9])(?=[\w-]{0,40}[A-Za-z])(?=[\w-]{0,40}\d)[A-Z0-9][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*\b"
    r"|\+?\d(?:[\d ().-]{5,24}\d)"  # a telephone number, an account
    r"|\b\d{1,3}(?:[,.]\d{3})+(?:[.,]\d+)?\b|\b\d+[.,]\d+\b"  # an amount
    r"|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d)?\b"
    r"|\b\d{1,2}\.? (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b"
    r"|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{1,2}\b"
)
_DECISIONS = (
    "decide",
    "agree",
    "must",
    "never",
    "only",
    "nobody else",
    "deadline",
    "chose",
    "instead of",
    "prefer",
    "promise",
)
_DECIDED = re.compile(rf"\b(?:{'|'.join(_DECISIONS)})", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_NAME = re.compile(r"(?<=[a-z,:] )[A-Z][a-z]+(?: [A-Z][a-z]+)+|^[A-Z][a-z]+ [A-Z][a-z]+ ")
_SHORTEST, _LONGEST = 8, 160
"""Characters of a sentence."""
_READ = 20_000
"""Characters of a message that are looked through."""
_MOST_VALUES = 64
"""Of a sentence: more than a line of a summary has room for."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A sentence with something exact in it."""

    text: str
    values: tuple[str, ...]
    """What is exact in it; empty for a decision without any."""
    score: int
    """How much there is in it that nobody could guess."""
    shape: str
    """The sentence with other digits is of the same shape."""


def exact_sentences(groups: Iterable[Group], *, known: Container[str] = ()) -> list[Exact]:
    """One of each shape, oldest first; none of those that are `known`."""
    found: dict[str, Exact | None] = {}
    seen: set[str] = set()
    for entry in entries_of(groups):
        message = entry.message
        mark, text = told(message)
        text = text[:_READ]
        if not _is_worth(text):
            continue
        for part in _sentences(text):
            if part in seen:
                continue
            seen.add(part)
            form = shape(part)
            if form not in found and form not in known and _is_worth(form):
                found[form] = _exact(" ".join(part.split()), mark + (message.name or message.role))
    return [exact for exact in found.values() if exact is not None]


def _sentences(text: str) -> list[str]:
    for end in (". ", "! ", "? "):
        text = text.replace(end, end[0] + "\n")
    return text.split("\n")


@cache
def _values(*, mail: bool, slash: bool) -> re.Pattern[str]:
    strong = "|".join([*([_MAIL] if mail else []), *([_PATH] if slash else []), _NUMBER])
    first = "" if mail or slash else "(?=[A-Z0-9+])"  # what a number can begin with: four times as fast
    return re.compile(rf"{first}(?:(?P<strong>{strong})|\b\d{{2,}}\b)")


def _exact(sentence: str, who: str) -> Exact | None:
    score, values = _weighed(sentence)
    if not score:
        return None
    text = sentence if len(sentence) <= _LONGEST else _around(sentence, values[0] if values else "")
    return Exact(f"{who}: {text}", values, score, shape(text))


def _is_worth(text: str) -> bool:
    """A first look, which most texts do not pass: searching for what is exact takes twenty times as long."""
    if "@" in text or "/" in text or _DIGITS.search(text):
        return True
    lower = text.lower()
    return any(word in lower for word in _DECISIONS)


def shape(text: str) -> str:
    """What stays the same of a sentence when its numbers change."""
    return _DIGITS.sub("0", text).lower()


def is_exact(text: str) -> bool:
    """Whether a text holds a value that nobody could guess."""
    return _weighed(text)[0] > 1


def values_of(text: str) -> tuple[str, ...]:
    """The values in a text."""
    return _weighed(text)[1]


def _weighed(sentence: str) -> tuple[int, tuple[str, ...]]:
    """How much there is in a sentence that nobody could guess, 0 for nothing; and the values in it."""
    if len(sentence) < _SHORTEST:
        return 0, ()
    there = _values(mail="@" in sentence, slash="/" in sentence).finditer(sentence)
    values = list(islice(there, _MOST_VALUES))
    strong = sum(found.group("strong") is not None for found in values)
    score = 2 * min(strong, 2) + min(len(values) - strong, 1)
    if _DECIDED.search(sentence):
        # Alone the words are too common: it takes a value, or a name.
        score += 1 if values else 2 if _NAME.search(sentence) else 0
    return score, tuple(found.group() for found in values)


def _around(sentence: str, value: str) -> str:
    start = max(sentence.find(value) - _LONGEST // 2, 0)
    return f"...{sentence[start : start + _LONGEST]}..."
