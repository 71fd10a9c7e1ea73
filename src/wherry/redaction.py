"""Keeping secrets out of what is written down: journal, logs, errors.

Three things are found in a text: secrets that this process holds (`hold`), letter for letter; whatever has the shape
of a well-known key, wherever it came from: a tool's result, a page, a server that repeats what it was sent; and what
the patterns of a program's policies find (`hold_pattern`). What is found is replaced by `…` and, of the first two, its
last four characters, by which people tell keys apart.

What has no known shape and is held by nobody passes: this is the second line, the first is not to write secrets at all.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import weakref
from collections import Counter, deque
from typing import TypeVar, cast

T = TypeVar("T")

MASK = "…".encode()
"""What stands where a secret was, before its ending if that is shown."""
SHORTEST = 6
"""A held secret that is shorter is not looked for: it would be found in words."""
SHORTEST_NAMED = 12
"""A secret that is shorter gives away nothing of itself, not even its ending."""

# Nothing here matches a quotation mark or ends in a backslash: of JSON, what is left is JSON.
_TAIL = r"[A-Za-z0-9_\-]"
_SHAPES = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek; with a digit, because a slug of words has none.
    rf"sk-(?=[A-Za-z_\-]*[0-9]){_TAIL}{{16,}}",
    r"sk_(?:live|test)_[A-Za-z0-9]{10,}",  # Stripe
    r"gsk_[A-Za-z0-9]{20,}",  # Groq
    r"csk-[A-Za-z0-9]{20,}",  # Cerebras
    r"xai-[A-Za-z0-9]{20,}",
    r"hf_[A-Za-z0-9]{20,}",  # Hugging Face
    r"tgp_v1_[A-Za-z0-9_\-]{20,}",  # Together
    rf"(?:nvapi|pplx|glpat)-{_TAIL}{{16,}}",
    r"tvly-[A-Za-z0-9\-]{16,}",
    rf"AIza{_TAIL}{{30,}}",  # Google
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",  # AWS
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_[A-Za-z0-9_]{30,}",
    rf"xox[abeprs]-{_TAIL}{{10,}}",  # Slack
    rf"eyJ{_TAIL}{{10,}}\.eyJ{_TAIL}{{10,}}\.{_TAIL}{{10,}}",  # a JSON web token
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^\"]{0,20000}?-----END [A-Z ]{0,20}PRIVATE KEY-----",
    r"[Bb]earer +(?=[A-Za-z._~+/=\-]*[0-9])[A-Za-z0-9._~+/=\-]{16,}",
)
_PATTERN = rf"(?:{'|'.join(_SHAPES)})"
_BEFORE = r"(?<![A-Za-z0-9_\-])"
_in_text = re.compile(_BEFORE + _PATTERN)
# In JSON the letter before may be a line break's: `\n`.
_in_bytes = re.compile(rf"(?:{_BEFORE}|(?<=\\[nrtbf])){_PATTERN}".encode())

# Where a shape can begin at all. Looked for first, since nearly no text has one: to stop only at characters that are
# rare takes 5 µs for a kilobyte, the whole pattern 25.
_MARKS = (
    "sk[-_]",
    "xai-",
    "hf_",
    "v1_",
    "[ipt]-",
    "vly-",
    "plx-",
    "gh[pousr]_",
    "pat_",
    "xox[a-z]-",
    "A[IKS]",
    "eyJ",
    "KEY-",
)
_MARK = rf"[-_IKSJ](?:{'|'.join(f'(?<={mark})' for mark in _MARKS)})"
_mark_in_text = re.compile(_MARK)
_mark_in_bytes = re.compile(_MARK.encode())

# And before that, in bytes: a run of what keys are made of. Prose has none that long; this takes 1 µs for a kilobyte.
_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/="
_LEVELLED = bytes(97 if byte in _CHARACTERS else 32 for byte in range(256))
_RUN = b"a" * 15

_lock = threading.Lock()
_held: Counter[str] = Counter()
_gone: deque[str] = deque()
"""Secrets whose owners were collected. A collection may come at any allocation, also in the middle of what is done
under the lock: so it only leaves a note."""
_held_patterns: Counter[re.Pattern[str]] = Counter()
_gone_patterns: deque[re.Pattern[str]] = deque()
_patterns: tuple[re.Pattern[str], ...] = ()
_own = re.compile(r"[0-9a-f]{64}|(?=.*[a-z])[0-9a-hjkmnp-tv-z]{18}|ap?-[0-9a-f]+")
"""A text that is nothing but a name of wherry's own: a pattern for numbers would find some of a digest's."""
_texts: tuple[str, ...] = ()
_forms: tuple[tuple[bytes, bytes], ...] = ()
"""Each held secret as it stands in JSON, with its ending; the longest first, since one may contain another."""


def hold(secret: str, owner: object) -> None:
    """Look for `secret` in whatever is written, for as long as `owner` lives."""
    if len(secret) < SHORTEST:
        return
    weakref.finalize(owner, _gone.append, secret).atexit = False
    with _lock:
        _held[secret] += 1
        _list()


def hold_pattern(pattern: re.Pattern[str], owner: object) -> None:
    """Look for what `pattern` finds in whatever text is written, for as long as `owner` lives.

    While there is one, every record is taken apart before it is written. Names that wherry itself gives (digests, runs,
    artifacts, approvals) are left alone, and numbers are: the pattern is for texts.
    """
    weakref.finalize(owner, _gone_patterns.append, pattern).atexit = False
    with _lock:
        _held_patterns[pattern] += 1
        _list()


def redact(text: str) -> str:
    """The text without secrets."""
    if _gone or _gone_patterns:
        _let_go()
    if _patterns:
        text = _without_patterns(text)
    for secret in _texts:
        if secret in text:
            text = text.replace(secret, ending(secret))
    if "earer " in text or _mark_in_text.search(text):
        return _in_text.sub(lambda found: ending(found.group()), text)
    return text


def redact_json(data: bytes) -> bytes:
    """JSON in UTF-8 without secrets; still JSON, and canonical if it was. Without any, the same object."""
    if _gone or _gone_patterns:
        _let_go()
    if _patterns:
        data = _json_without_patterns(data)
    return _redact_json(data)


def _redact_json(data: bytes) -> bytes:
    for secret, instead in _forms:
        if secret in data:
            data = data.replace(secret, instead)
    if _RUN not in data.translate(_LEVELLED) and b"-----BEGIN" not in data:
        return data
    if b"earer " in data or _mark_in_bytes.search(data):
        return _in_bytes.sub(lambda found: ending(found.group().decode("utf-8", "replace")).encode(), data)
    return data


def redact_bytes(data: bytes) -> bytes:
    """A text in UTF-8, JSON or not, without secrets. Without any, the same object."""
    for secret in _texts:
        written = secret.encode("utf-8", "surrogatepass")
        if written in data:
            data = data.replace(written, ending(secret).encode())
    if _gone or _gone_patterns:
        _let_go()
    if _patterns:
        text = data.decode("utf-8", "surrogateescape")
        clean = _without_patterns(text)
        if clean != text:
            data = clean.encode("utf-8", "surrogateescape")
    return _redact_json(data)


def ending(secret: str) -> str:
    """How a secret is told of: its last four characters, or nothing of one that is short."""
    tail = secret[-4:]
    return f"…{tail}" if len(secret) >= SHORTEST_NAMED and tail.isascii() and tail.isalnum() else "…"


class RedactingFilter(logging.Filter):
    """Takes secrets out of log records: `handler.addFilter(RedactingFilter())`.

    On a handler, not on a logger: a logger's filters do not see what its children log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def _let_go() -> None:
    """Forget the secrets whose owners are gone."""
    if not _lock.acquire(blocking=False):
        return  # somebody is at it
    try:
        while _gone:
            _forget(_held, _gone.popleft())
        while _gone_patterns:
            _forget(_held_patterns, _gone_patterns.popleft())
        _list()
    finally:
        _lock.release()


def _forget(held: Counter[T], one: T) -> None:
    held[one] -= 1
    if held[one] <= 0:
        del held[one]


def _without_patterns(text: str) -> str:
    if _own.fullmatch(text):
        return text
    for pattern in _patterns:
        text = pattern.sub("…", text)
    return text


def _json_without_patterns(data: bytes) -> bytes:
    """Taken apart: a pattern over bytes would see quotation marks and escapes, and might take them."""
    before = json.loads(data.decode("utf-8", "surrogatepass"))
    after = _cleaned(before)
    if after is before:
        return data
    text = json.dumps(after, sort_keys=True, separators=(",", ":"), ensure_ascii=False)  # as `messages.canonical` does
    return text.encode("utf-8", "surrogatepass")


def _cleaned(value: object) -> object:
    """The value without what patterns find; the same object if there is nothing."""
    if isinstance(value, str):
        clean = _without_patterns(value)
        return value if clean == value else clean
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        made = {_without_patterns(key): _cleaned(item) for key, item in known.items()}
        same = made.keys() == known.keys() and all(made[key] is item for key, item in known.items())
        return known if same else made
    if isinstance(value, list):
        items = cast("list[object]", value)
        cleaned = [_cleaned(item) for item in items]
        return items if all(new is old for new, old in zip(cleaned, items, strict=True)) else cleaned
    return value


def _list() -> None:
    global _texts, _forms, _patterns  # noqa: PLW0603 - replaced as a whole, so that readers need no lock
    _patterns = tuple(_held_patterns)
    _texts = tuple(sorted(_held, key=len, reverse=True))
    # A secret may hold what JSON writes in another way: a quotation mark, a line break.
    written = ((json.dumps(secret, ensure_ascii=False)[1:-1], ending(secret)) for secret in _texts)
    _forms = tuple((text.encode("utf-8", "surrogatepass"), instead.encode()) for text, instead in written)
