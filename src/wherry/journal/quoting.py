"""Finding in a message what others said already, so that the store keeps it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wherry.store.composed import Piece, in_pieces

LEAST_BODY = 1_024
"""Bytes of a body from which it is looked at."""
_LEAST_RANGE = 256
"""Bytes that are worth a range: one takes some 80."""
_PROBE = 48
_START = b'{"content":"'
_ENDS = (b'","role":"assistant"}', b'","role":"user"}')


@dataclass(frozen=True, slots=True)
class Quotable:
    """A message that is in the store, of which others may have parts."""

    digest: str
    body: bytes
    start: int
    """Where its text begins in the body."""
    end: int

    @property
    def probes(self) -> tuple[bytes, bytes]:
        return self.body[self.start : self.start + _PROBE], self.body[self.end - _PROBE : self.end]


def quotable(digest: str, body: bytes) -> Quotable | None:
    """A message of text alone and of some length, as one to be quoted."""
    ending = next((end for end in _ENDS if body.endswith(end)), None)
    if ending is None or not body.startswith(_START):
        return None
    start, end = len(_START), len(body) - len(ending)
    return Quotable(digest, body, start, end) if end - start >= _LEAST_RANGE else None


def quoting(body: bytes, others: Iterable[Quotable]) -> bytes | None:
    """The body in pieces, with ranges of the others where it has their words; None if that saves less than a third."""
    found: list[tuple[int, str, int, int]] = []
    for other in others:
        found += _ranges(body, other)
    pieces: list[Piece] = []
    done = saved = 0
    for at, name, start, end in sorted(found):
        if at < done:
            continue
        pieces += [body[done:at], (name, start, end)]
        done = at + end - start
        saved += end - start
    if saved * 3 < len(body):
        return None
    return in_pieces([*pieces, body[done:]])


def _ranges(body: bytes, other: Quotable) -> list[tuple[int, str, int, int]]:
    """The beginning of the other's text, and its end where the middle was left out: place in the body, and range."""
    first, last = other.probes
    text = other.body[other.start : other.end]
    out: list[tuple[int, str, int, int]] = []
    behind = 0
    at = body.find(first)
    if at >= 0:
        most = min(len(text), len(body) - at)
        size = _longest(most, lambda size: body[at : at + size] == text[:size])
        if size >= _LEAST_RANGE:
            out.append((at, other.digest, other.start, other.start + size))
            behind = at + size
        if size == len(text):
            return out
    end = body.find(last, behind)
    if end >= 0:
        end += _PROBE
        most = min(len(text), end - behind)
        size = _longest(most, lambda size: body[end - size : end] == text[len(text) - size :])
        if size >= _LEAST_RANGE:
            out.append((end - size, other.digest, other.end - size, other.end))
    return out


def _longest(most: int, same: Callable[[int], bool]) -> int:
    """The largest number up to `most` for which it holds; it holds for all below one for which it holds."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if same(middle):
            low = middle
        else:
            high = middle - 1
    return low
