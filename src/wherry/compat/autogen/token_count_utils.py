"""The names that programs import from `autogen.token_count_utils`: tokens, counted without network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast  # Any: contents of messages

from wherry.compat.autogen.messages import Dict, content_str
from wherry.context import TokenCounter
from wherry.models import ModelProfile

_DEFAULT = "gpt-3.5-turbo-0613"
_LIMITS = {
    **dict.fromkeys(("gpt-3.5-turbo-0301", _DEFAULT, "gpt-3.5-turbo-instruct"), 4_096),
    **dict.fromkeys(("gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-3.5-turbo-1106"), 16_385),
    **dict.fromkeys(("gpt-3.5-turbo-16k", "gpt-3.5-turbo-16k-0613"), 16_385),
    **dict.fromkeys(("gpt-4", "gpt-4-0314", "gpt-4-0613"), 8_192),
    **dict.fromkeys(("gpt-4-32k", "gpt-4-32k-0314", "gpt-4-32k-0613"), 32_768),
    **dict.fromkeys(("gpt-4-turbo", "gpt-4-turbo-2024-04-09", "gpt-4-1106-preview", "gpt-4-0125-preview"), 128_000),
    **dict.fromkeys(("gpt-4-turbo-preview", "gpt-4-vision-preview", "gpt-4o", "gpt-4o-2024-05-13"), 128_000),
    **dict.fromkeys(("gpt-4o-2024-08-06", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"), 128_000),
}
_A_MESSAGE = 3
_A_REPLY = 3


@cache
def _counter(family: str) -> TokenCounter:
    return TokenCounter.for_profile(ModelProfile("count", counter=family))


def _of(model: str) -> TokenCounter:
    return _counter("o200k" if re.match(r"gpt-4o|gpt-4\.1|gpt-5|o\d", model) else "cl100k")


def get_max_token_limit(model: str = _DEFAULT) -> int:
    """The window of a model of OpenAI's.

    Raises:
        KeyError: it is not known.
    """
    return _LIMITS[re.sub(r"^gpt4", "gpt-4", re.sub(r"^gpt-?35", "gpt-3.5", model))]


def count_token(input: str | Sequence[Mapping[str, Any]] | Mapping[str, Any], model: str = _DEFAULT) -> int:
    """The tokens of a text, or of messages as the model's server counts them.

    Raises:
        ValueError: it is neither.
    """
    counter = _of(model)
    if isinstance(input, str):
        return counter.text(input)
    if isinstance(input, Mapping):
        input = [input]
    if not isinstance(cast("object", input), list | tuple):
        raise ValueError(f"input must be str, list or dict, but we got {type(input)}")  # noqa: TRY004 - programs catch it
    total = _A_REPLY
    for message in input:
        total += _A_MESSAGE
        for key, value in message.items():
            if value is not None:
                total += counter.text(value if isinstance(value, str) else json.dumps(value, default=str))
                total += key == "name"
    return total


def percentile_used(input: Any, model: str = _DEFAULT) -> float:
    """The share of the window that it takes."""
    return count_token(input, model) / get_max_token_limit(model)


def token_left(input: Any, model: str = _DEFAULT) -> int:
    """The tokens of the window beside it."""
    return get_max_token_limit(model) - count_token(input, model)


def num_tokens_from_functions(functions: Sequence[Dict], model: str = _DEFAULT) -> int:
    """The tokens of functions as a model is told of them, by OpenAI's rule of thumb."""
    counter = _of(model)
    total = 12
    for function in functions:
        total += counter.text(function["name"]) + counter.text(function["description"]) - 2
        properties: Mapping[str, Dict] | None = function.get("parameters", {}).get("properties")
        if properties is None:
            continue
        total += 11 if properties else 9
        for name, schema in properties.items():
            total += counter.text(name)
            total += sum(2 + counter.text(str(schema[key])) for key in ("type", "description") if key in schema)
            choices: Sequence[object] = schema.get("enum", ())
            total += sum(3 + counter.text(str(one)) for one in choices) - (3 if choices else 0)
    return total


def tokens_of(content: Any) -> int:
    """The tokens of a message's content."""
    return _counter("cl100k").text(content_str(content))


def cut(text: str, most: int) -> str:
    """As much of the beginning as so many tokens hold."""
    counter = _counter("cl100k")
    if most <= 0:
        return ""
    if len(text.encode()) <= most or counter.text(text) <= most:
        return text
    low, high = 0, min(len(text), most * 64)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if counter.text(text[:middle]) <= most else (low, middle - 1)
    return text[:low]
