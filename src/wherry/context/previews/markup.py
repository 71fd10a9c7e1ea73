"""HTML: the title, the headings, and the text without its tags.

Not by `html.parser`: on a page of broken tags its time grows with the square of the page's size, and a page is written
by somebody else. What is needed here is little: each character is looked at once, whatever the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.context.previews.kinds import Kind, Show
from wherry.context.previews.text import head_and_tail

_MOST_READ = 2_000_000
"""Characters of a page that are read; what is behind them is not in the preview."""
_MOST_TEXT = 400_000
"""Characters of text that are kept of it for the preview."""
_MARK = re.compile(r"<(?:(?P<comment>!--)|(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9]{0,15})[^<>]*>|[!?][^<>]*>)")
_SILENT = frozenset({"script", "style", "template", "svg", "noscript"})
_INLINE = frozenset(
    {"a", "abbr", "b", "code", "em", "font", "i", "mark", "q", "s", "small", "span", "strong", "sub", "u"}
)
_ENDING = frozenset(["p", "ul", "ol", "table", "pre", "blockquote", "section", "article"])
"""Tags that end a heading which was not closed."""
_HEADING = re.compile(r"h[1-6]")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page: a heading, its title, or a paragraph or anything else with text in it."""

    text: str
    level: int
    """1 to 6 for a heading, 0 for text, -1 for the title."""


def accepts(text: str) -> bool:
    head = text[:1_000].lstrip().lower()
    return head.startswith(("<!doctype html", "<html")) or ("<head" in head and "<body" in text[:100_000].lower())


def read(text: str) -> Show:
    title, headings, body = "", list[str](), list[str]()
    size = 0
    for block in blocks(text[:_MOST_READ]):
        if block.level < 0:
            title = title or block.text[:200]
            continue
        if block.level in (1, 2, 3):
            headings.append(block.text)
        if size < _MOST_TEXT:
            body.append(block.text)
            size += len(block.text)
    whole = "\n".join(body)
    listed = "; ".join(headings)

    def show(room: int) -> str:
        short = head_and_tail(listed, room // 3)
        head = "\n".join(part for part in (title, f"headings: {short}" if short else "") if part)
        return f"{head}\n{head_and_tail(whole, room - len(head) - 1)}".lstrip()

    return show


def blocks(page: str) -> Iterator[Block]:
    """The text of a page, piece by piece, in order. Scripts, styles and comments are left out."""
    said: list[str] = []
    level = at = 0
    while (mark := _MARK.search(page, at)) is not None:
        said.append(page[at : mark.start()])
        at = mark.end()
        if mark["comment"]:
            at = _after(page, "-->", at)
            continue
        name = (mark["name"] or "").lower()
        if name in _SILENT and not mark["close"]:
            at = _end_of(page, name, at)
            continue
        if not name or name in _INLINE:
            continue
        yield from _block(said, level)
        said.clear()
        if mark["close"] or name in _ENDING:
            level = 0
        elif name == "title":
            level = -1
        elif _HEADING.fullmatch(name):
            level = int(name[1])
    said.append(page[at:])
    yield from _block(said, level)


def _block(said: list[str], level: int) -> Iterator[Block]:
    text = " ".join("".join(said).split())
    if "&" in text:
        from html import unescape  # two thousand entities, which few programs need

        text = " ".join(unescape(text).split())
    if text:
        yield Block(text, level)


def _after(page: str, end: str, at: int) -> int:
    found = page.find(end, at)
    return len(page) if found < 0 else found + len(end)


def _end_of(page: str, name: str, at: int) -> int:
    found = re.compile(rf"</{name}", re.IGNORECASE).search(page, at)
    return len(page) if found is None else _after(page, ">", found.end())


KIND = Kind("text/html", accepts, read)
