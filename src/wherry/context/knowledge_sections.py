"""Documents cut into sections: what one can find, and show, by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wherry.context.previews.markup import accepts as is_html
from wherry.context.previews.markup import blocks

SIZE = 1_200
"""Characters of a section at most: some 300 tokens, so that a handful fits a small share of a small window."""
_TITLE = 160

_HEADING = re.compile(r"(#{1,6})[ \t]+(\S.*?)[ \t]*#*$")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,}|~{3,}|\^{3,})$")
_FENCE = re.compile(r"[ \t]*(```|~~~)")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document under one heading."""

    key: str
    """Names it within its knowledge: `DOCUMENT#NUMBER`."""
    document: str
    title: str
    """The headings above it, `Refunds > Deadlines`; empty where there are none."""
    text: str

    @property
    def heading(self) -> str:
        return f"{self.document} > {self.title}" if self.title else self.document


def sections(document: str, text: str) -> list[Section]:
    """A document's sections in order. Linear in its length; every word of it is in one of them.

    By the headings of Markdown (`#` and underlined), of reStructuredText and of HTML; else by paragraphs.
    """
    parts = _html(text) if is_html(text) else _marked(text)
    found: list[Section] = []
    for title, body in parts:
        pieces = list(_pieces(body.strip()))
        if not pieces and title and (not found or found[-1].title != title):
            pieces = [""]  # a heading with nothing but other headings under it can be asked for, too
        found += [Section(f"{document}#{len(found) + n}", document, title, piece) for n, piece in enumerate(pieces)]
    return found


def _html(text: str) -> Iterator[tuple[str, str]]:
    above: list[tuple[int, str]] = []
    body: list[str] = []
    for block in blocks(text):
        if block.level == 0:
            body.append(block.text)
            continue
        yield _path(above), "\n\n".join(body)
        body.clear()
        _go_under(above, max(block.level, 0), block.text)
    yield _path(above), "\n\n".join(body)


def _marked(text: str) -> Iterator[tuple[str, str]]:
    above: list[tuple[int, str]] = []
    body: list[str] = []
    styles: list[str] = []
    """Underlines, in the order in which they first appear: the first one is the highest."""
    fence = ""
    for line in text.splitlines():
        if mark := _FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading is not None:
            level, title = len(heading[1]), heading[2]
        elif not fence and _UNDERLINE.fullmatch(line.rstrip()) and _is_title(body, line.rstrip()):
            if line[0] not in styles:
                styles.append(line[0])
            level, title = styles.index(line[0]) + 1, body.pop().strip()
        else:
            body.append(line)
            continue
        yield _path(above), "\n".join(body)
        body.clear()
        _go_under(above, level, title)
    yield _path(above), "\n".join(body)


def _is_title(body: list[str], line: str) -> bool:
    """Whether the line before an underline is a heading, not the end of a paragraph or a row of a table."""
    if not body or not body[-1].strip() or len(body[-1].strip()) > len(line) + 2 or "|" in body[-1]:
        return False
    return len(body) == 1 or not body[-2].strip() or _UNDERLINE.fullmatch(body[-2].strip()) is not None


def _go_under(above: list[tuple[int, str]], level: int, title: str) -> None:
    while above and above[-1][0] >= level:
        above.pop()
    above.append((level, " ".join(title.split())[:_TITLE]))


def _path(above: Iterable[tuple[int, str]]) -> str:
    return " > ".join(title for _, title in above)


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of at most `SIZE` characters: between paragraphs, else between lines, else between words."""
    piece: list[str] = []
    size = 0
    for part in _parts(text):
        if piece and size + len(part) > SIZE:
            yield "\n\n".join(piece)
            piece, size = [], 0
        piece.append(part)
        size += len(part) + 2
    if piece:
        yield "\n\n".join(piece)


def _parts(text: str) -> Iterator[str]:
    for paragraph in _PARAGRAPH.split(text):
        part = paragraph.strip("\n")
        while len(part) > SIZE:
            end = max(part.rfind("\n", SIZE // 2, SIZE), part.rfind(". ", SIZE // 2, SIZE) + 1)
            if end <= 0:
                end = part.rfind(" ", SIZE // 2, SIZE)
            end = SIZE if end <= 0 else end
            yield part[:end].rstrip()
            part = part[end:].lstrip()
        if part.strip():
            yield part
