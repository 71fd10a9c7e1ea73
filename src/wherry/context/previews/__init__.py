"""What stays in a message of a content that is too large for it: one module a kind of content.

A preview says what the content is and how it is built, and shows as much of it as there is room for.
"""

from __future__ import annotations

from wherry.context.previews import binary, logs, markup, source, structured, tables
from wherry.context.previews.kinds import TEXT, Kind
from wherry.context.previews.text import head_and_tail

__all__ = ["KINDS", "Kind", "head_and_tail", "kind_of"]

KINDS = (binary.KIND, structured.KIND, markup.KIND, tables.KIND, logs.KIND, source.KIND, TEXT)
"""In the order in which they are asked: the surest test first, plain text last."""


def kind_of(text: str) -> Kind:
    """The first kind that accepts `text`."""
    return next(kind for kind in KINDS if kind.accepts(text))
