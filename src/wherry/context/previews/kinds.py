"""What a kind of content is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from wherry.context.previews.text import head_and_tail

Show = Callable[[int], str]
"""`show(room)`: the structure of one content and what else fits, in about `room` characters and never many more."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of content that can be previewed."""

    media_type: str
    accepts: Callable[[str], bool]
    """Whether a text is of this kind. Must be quick: it is asked about texts of megabytes."""
    read: Callable[[str], Show]
    """Reads a text once; what it gives is called several times, until the preview fits."""


def plain(text: str) -> Show:
    """Of a text with no structure: head and tail."""
    return partial(head_and_tail, text)


TEXT = Kind("text/plain", lambda text: True, plain)
