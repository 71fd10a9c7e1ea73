"""What a model that writes summaries is to answer, and reading what it did answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, cast

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "maxItems": 16,
            "items": {
                "type": "object",
                "properties": {"about": {"type": "string"}, "fact": {"type": "string"}},
                "required": ["about", "fact"],
                "additionalProperties": False,
            },
        },
        "decisions": {"type": "array", "maxItems": 6, "items": {"type": "string"}},
        "open": {"type": "array", "maxItems": 6, "items": {"type": "string"}},
    },
    "required": ["facts", "decisions", "open"],
    "additionalProperties": False,
}

_MOST_REPLY = 64_000
_MOST_FACT = 240
_MOST_FACTS = 64
_STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*"'
_PAIR = re.compile(rf'\{{\s*"about":\s*{_STRING},\s*"fact":\s*{_STRING}\s*\}}')
_NUMBER = re.compile(r"\d[\d.,:]*\d|\d\d")


class NoSummaryError(Exception):
    """The model gave nothing that can be used. The message says why."""


def read_facts(text: str, source: str) -> list[str]:
    """The lines of a reply. What names a number that `source` does not have is made up, and left out.

    Raises:
        NoSummaryError: It is too long, or no JSON object.
    """
    if len(text) > _MOST_REPLY:
        raise NoSummaryError(f"a reply of {len(text):,} characters")
    start, end = text.find("{"), text.rfind("}")
    try:
        value: object = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        # Cut at the limit of its length, as small models' replies often are: what was finished stands.
        value = {"facts": [json.loads(found) for found in _PAIR.findall(text)]}
        if not value["facts"]:
            raise NoSummaryError("the reply is no JSON") from None
    if not isinstance(value, dict):
        raise NoSummaryError("the reply is no JSON object")
    reply = cast("dict[str, object]", value)
    lines = [f"{about}: {fact}" if about.strip() else fact for about, fact in _pairs(reply.get("facts"))]
    lines += [f"decided: {item}" for item in _strings(reply.get("decisions"))]
    lines += [f"still open: {item}" for item in _strings(reply.get("open"))]
    flat = [" ".join(line.split())[:_MOST_FACT] for line in lines[:_MOST_FACTS]]
    return [line for line in flat if all(number in source for number in _NUMBER.findall(line))]


def _pairs(value: object) -> Iterable[tuple[str, str]]:
    for item in cast("list[object]", value) if isinstance(value, list) else ():
        if isinstance(item, dict):
            pair = cast("dict[str, object]", item)
            about, fact = pair.get("about"), pair.get("fact")
            if isinstance(about, str) and isinstance(fact, str) and fact.strip():
                yield about, fact


def _strings(value: object) -> Iterable[str]:
    for item in cast("list[object]", value) if isinstance(value, list) else ():
        if isinstance(item, str) and item.strip():
            yield item
