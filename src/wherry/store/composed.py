"""Bodies of messages that repeat parts of others: those parts are stored once.

In a conversation of many, what one says as the assistant is in the others' requests as the user's, behind a tag, and
behind what somebody else said. Such a body is kept as pieces: bytes of its own, and ranges of other messages' bodies.
It is read as if it were whole, and its digest is that of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from wherry.errors import StoreError
from wherry.messages import canonical, parse

MARK = b"\x01"
"""The first byte of a body in pieces; one that is whole is JSON."""
DEEPEST = 8
"""Pieces of pieces: more is no body that was written here."""

Piece: TypeAlias = "bytes | tuple[str, int, int]"
"""Bytes, or the digest of a message with the start and the end of a range of its whole body."""


def in_pieces(pieces: Sequence[Piece]) -> bytes:
    """The body that is stored for these pieces."""
    names = sorted({one[0] for one in pieces if isinstance(one, tuple)})
    places = {name: place for place, name in enumerate(names)}
    written = [
        one.decode("latin-1") if isinstance(one, bytes) else [places[one[0]], one[1], one[2]] for one in pieces if one
    ]
    return MARK + canonical([names, written])


def bases_of(body: bytes) -> set[str]:
    """The messages whose bodies a stored body has ranges of."""
    if not body.startswith(MARK):
        return set()
    return {one[0] for one in _pieces(body) if isinstance(one, tuple)}


def whole(body: bytes, read: Callable[[str], bytes], *, depth: int = 0) -> bytes:
    """A stored body as it was before it was put in pieces.

    Args:
        body: As it is stored.
        read: The stored body of a message.
        depth: How many bodies above this one it is for.

    Raises:
        StoreError: A message that it has a range of is missing, or it is damaged.
    """
    if not body.startswith(MARK):
        return body
    if depth >= DEEPEST:
        raise StoreError("a message in pieces is damaged: its pieces never end")
    known: dict[str, bytes] = {}
    out: list[bytes] = []
    for one in _pieces(body):
        if isinstance(one, bytes):
            out.append(one)
            continue
        name, start, end = one
        if name not in known:
            known[name] = whole(read(name), read, depth=depth + 1)
        out.append(known[name][start:end])
    return b"".join(out)


def _pieces(body: bytes) -> list[Piece]:
    try:
        names, written = cast("tuple[list[str], list[Any]]", parse(body[len(MARK) :]))
        return [_piece(one, names) for one in written]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise StoreError(f"a message in pieces is damaged: {error}") from error


def _piece(raw: object, names: list[str]) -> Piece:
    if isinstance(raw, str):
        return raw.encode("latin-1")
    place, start, end = cast("list[int]", raw)
    if not isinstance(names[place], str) or min(place, start, end) < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - it was read
        raise TypeError("a piece is neither bytes nor a range")
    return names[place], start, end
