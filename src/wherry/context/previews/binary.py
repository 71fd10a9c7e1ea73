"""What is no text at all, and long runs of base64 and the like: a few bytes of it say as much as many."""

from __future__ import annotations

import re
from functools import partial

from wherry.context.previews.kinds import Kind, Show

_ENCODED = re.compile(r"(?:data:[\w/+.-]+;base64,)?[A-Za-z0-9+/=_\r\n-]+")
_LONGEST_LINE = 2_000
_SHOWN = 96


def accepts(text: str) -> bool:
    sample = text[:4_000]
    odd = sum(1 for mark in sample if mark == "\ufffd" or (mark < " " and mark not in "\n\r\t"))
    if odd * 10 > len(sample):
        return True
    return len(text) > _LONGEST_LINE and _ENCODED.fullmatch(sample) is not None and len(set(sample)) > 20


def read(text: str) -> Show:
    return partial(_show, text)


def _show(text: str, room: int) -> str:
    first = text[: min(_SHOWN, max(room - 60, 0))]
    return f"not readable as text; it begins: {first!r}"


KIND = Kind("application/octet-stream", accepts, read)
