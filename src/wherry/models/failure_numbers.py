"""The numbers in an error's text: how many tokens were too many, and how long to wait."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_N = r"(\d[\d,_]*)"

_SUMS = (
    # Anthropic: input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000
    re.compile(rf"{_N} \+ {_N} > {_N}"),
    # TGI: must be <= 1512. Given: 1000 `inputs` tokens and 1024 `max_new_tokens`
    re.compile(rf"given: {_N} `?inputs`? tokens and {_N} `?max_new_tokens"),
    re.compile(rf"prompt(?: tokens)? \(?{_N}\)? ?(?:tokens )?(?:\+|and|plus) `?max_\w*tokens`? \(?{_N}"),
    # vLLM: You passed 12289 input tokens and requested 4096 output tokens
    re.compile(rf"passed {_N} input tokens and requested {_N} output tokens"),
)
# vLLM: 'max_tokens' is too large: 5000. [...] (5000 > 4096 - 100)
_DIFFERENCE = re.compile(rf"\({_N} > {_N} - {_N}\)")

_LIMITS = tuple(
    re.compile(pattern)
    for pattern in (
        # OpenAI, vLLM, DeepSeek, OpenRouter, SGLang, llama.cpp, LM Studio, Mistral, Fireworks, ...
        rf"context(?: (?:length|window|size|limit))?\)?(?:(?: is)?(?: only)?(?: of)?(?: only)?|:| =) ?\(?{_N}",
        rf"{_N}(?: tokens?)? (?:maximum|max) context (?:length|window)",
        # vLLM's engine: maximum model length of 16384; xAI: maximum prompt length is 131072; TensorRT-LLM: (4096)
        rf"max(?:imum)?(?: \w+){{0,3}} (?:length|tokens?|size)(?: allowed| is| of| =|:)*? ?\(?{_N}",
        rf"limit (?:is|of)?:? ?\(?{_N}",
        rf"<= ?{_N}",
        rf"(?:less|fewer) than {_N}",
        rf"at most {_N}",
        rf"cannot exceed {_N}",
        rf"> {_N}",
        rf"limit:? {_N}",
        rf"supports up to {_N}",
        rf"more than (?:the )?{_N}",
        rf"max_\w*len(?:gth)?\W{{0,3}}{_N}",
        rf"n_ctx ?\(?{_N}",
    )
)
_REQUESTED = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:resulted in|requested(?: about| a total of)?|contains?|has|received|counted|given:|got|you sent) {_N}",
        # prompt (length 21535), input (61709 tokens), token count (3475108), Requested tokens (516)
        rf"(?:prompt|input|request|requested|sequence|count|tokens)(?: token)?(?: \w+){{0,2}} ?\((?:length )?{_N}",
        rf"(?:too long|too large|too many(?: \w+)? tokens?):? {_N}",
        rf"(?:length|count|size)(?: is| of|:) {_N}",
        rf"first {_N} tokens",
        rf"n_keep \({_N}\)",
        rf"(?:requested|actual):? {_N}",
        rf"{_N} (?:input )?tokens",
    )
)
_BYTES = re.compile(r"\b(?:bytes?|[kmg]i?b|characters)\b")
# A name's own digits (gpt-4-32k, llama-3.1-8b) and dates are no counts.
_COUNT = re.compile(r"(?<![\w.\-/$])(\d[\d,_]*)(?![\w\-/]|\.\d)")


def token_counts(text: str, fields: Mapping[str, int]) -> tuple[int | None, int | None]:
    """The window and what was asked of it, in tokens, as far as an overflow's text or fields say.

    What was asked is always more than the window: a pair that does not satisfy this was misread, and the
    doubtful half is left out.
    """
    limit = fields.get("n_ctx")
    requested = fields.get("n_prompt_tokens")
    if limit is not None and requested is not None:
        return limit, requested
    text = text.lower()
    if _BYTES.search(text) and "token" not in text:
        return None, None
    if match := _DIFFERENCE.search(text):
        wanted, window, given = (_number(g) for g in match.groups())
        return window, wanted + given
    for pattern in _SUMS:
        if match := pattern.search(text):
            groups = [_number(g) for g in match.groups()]
            requested = groups[0] + groups[1]
            limit = groups[2] if len(groups) == 3 else limit
            break
    if limit is None:
        limit = _first(_LIMITS, text)
    if requested is None:
        requested = _first(_REQUESTED, text, other_than=limit, at_least=limit)
    if limit is None or requested is None:
        counts = [n for n in (_number(m.group(1)) for m in _COUNT.finditer(text)) if n >= 16]
        if requested is None and limit is not None:
            requested = next((n for n in counts if n > limit), None)
        elif limit is None and requested is not None:
            limit = next((n for n in counts if n < requested), None)
        elif len(set(counts)) == 2:
            limit, requested = min(counts), max(counts)
    if limit is not None and requested is not None and requested < limit:
        requested = None
    return limit, requested


def asked_of_rate(text: str) -> tuple[int, int] | None:
    """Limit and request of a `Limit 30000, Requested 30601` text about tokens per minute; None when there are none."""
    text = text.lower()
    limit = re.search(rf"\blimit:? {_N}", text)
    requested = re.search(rf"\brequested:? {_N}", text)
    if limit is None or requested is None:
        return None
    return _number(limit.group(1)), _number(requested.group(1))


def _first(
    patterns: tuple[re.Pattern[str], ...], text: str, *, other_than: int | None = None, at_least: int | None = None
) -> int | None:
    for pattern in patterns:
        for match in pattern.finditer(text):
            value = _number(match.group(1))
            if value != other_than and (at_least is None or value >= at_least):
                return value
    return None


def _number(digits: str) -> int:
    return int(re.sub(r"\D", "", digits)[:15])


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PIECE = re.compile(r"(\d+(?:\.\d+)?) ?(ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])")
_WAIT = re.compile(
    r"(?:try again|retry|retrying|wait|available|resets?)\b[^.\d]{0,40}? (?:in|after|for)?:? ?"
    r"((?:\d[\d.]* ?[a-z]+[ ,]*(?:and )?)+)"
)


def wait_seconds(headers: Mapping[str, str], text: str, *, now: float | None = None) -> float | None:
    """How long the server asks to wait: by Retry-After, by its own rate-limit headers, or in words."""
    now = time.time() if now is None else now
    if (value := _float(headers.get("retry-after-ms"))) is not None:
        return max(0.0, value / 1000)
    if (header := headers.get("retry-after")) is not None and (value := _moment(header, now)) is not None:
        return value
    if (match := _WAIT.search(text.lower())) is not None and (value := _duration(match.group(1))) is not None:
        return value
    resets = [
        value
        for name, header in headers.items()
        # OpenAI: x-ratelimit-reset-tokens "6m0s"; Anthropic: anthropic-ratelimit-tokens-reset, an ISO time
        if "ratelimit" in name and "reset" in name and (value := _moment(header, now)) is not None
    ]
    exhausted = [
        value
        for name, header in headers.items()
        if "ratelimit" in name
        and "reset" in name
        and headers.get(name.replace("reset", "remaining"), "").strip() in ("0", "0.0")
        and (value := _moment(header, now)) is not None
    ]
    return max(exhausted or resets, default=None)


def _moment(text: str, now: float) -> float | None:
    """Seconds from now to what a header says: seconds, a duration, a Unix time (s or ms), a date."""
    if (value := _float(text)) is not None:
        if value > 1e11:
            value /= 1000
        return max(0.0, value - now) if value > 1e9 else max(0.0, value)
    if (duration := _duration(text.lower())) is not None:
        return duration
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        try:
            when = datetime.fromisoformat(text.strip())
        except ValueError:
            return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - now)


def _duration(text: str) -> float | None:
    pieces = list(_PIECE.finditer(text))
    if not pieces or pieces[0].start() > 1:
        return None
    return round(sum(float(p.group(1)) * _unit(p.group(2)) for p in pieces), 3)


def _unit(name: str) -> float:
    return _UNITS["ms"] if name.startswith(("ms", "milli")) else _UNITS[name[0]]


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e15 else None
