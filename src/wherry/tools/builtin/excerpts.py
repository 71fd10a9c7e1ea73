"""Excerpts: what tools give that read what is stored already."""

from __future__ import annotations

from collections.abc import Callable

Render = Callable[[int], str]
"""`render(size)`: the excerpt in about `size` characters; its own words say what of the whole it shows."""


class Excerpt(str):
    """A part of a stored content.

    Where it is too large for a message it is not cut somewhere and not stored once more: it is made anew, smaller, so
    that what it says of itself (up to which byte, how many matches) stays true.
    """

    render: Render

    def __new__(cls, render: Render, text: str) -> Excerpt:
        made = super().__new__(cls, text)
        made.render = render
        return made

    @classmethod
    def of(cls, render: Render, size: int) -> Excerpt:
        """The excerpt in about `size` characters."""
        return cls(render, render(size))
