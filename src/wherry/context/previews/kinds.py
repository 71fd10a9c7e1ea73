"""The kinds of content that can be previewed, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.context.previews.text import head_and_tail


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of content."""

    media_type: str
    accepts: Callable[[str], bool]
    """Whether a text is of this kind. Must be quick: it is asked about texts of megabytes."""
    show: Callable[[str, int], str]
    """`show(text, room)`: the structure and what else fits, in about `room` characters and never many more."""


TEXT = Kind("text/plain", lambda text: True, head_and_tail)

_kinds: list[Kind] = []


def register(kind: Kind) -> None:
    """Add a kind; it is asked before those that were there."""
    _kinds.insert(0, kind)


def kind_of(text: str) -> Kind:
    """The first kind that accepts `text`; plain text if none does."""
    return next((kind for kind in _kinds if kind.accepts(text)), TEXT)
