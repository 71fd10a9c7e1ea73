"""What stays in a message of a content that is too large for it: one module a kind of content.

A preview says what the content is and how it is built, and shows as much of it as there is room for. `register` adds a
kind; the first whose test accepts a text describes it.
"""

from __future__ import annotations

from wherry.context.previews.kinds import Kind, kind_of, register
from wherry.context.previews.text import head_and_tail

__all__ = ["Kind", "head_and_tail", "kind_of", "register"]
