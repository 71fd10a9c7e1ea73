"""HTML: the title, the headings, and the text without its tags."""

from __future__ import annotations

from html.parser import HTMLParser

from wherry.context.previews.kinds import Kind, Show
from wherry.context.previews.text import head_and_tail

_SILENT = frozenset({"script", "style", "template", "svg", "noscript"})
_HEADINGS = frozenset({"h1", "h2", "h3"})
_MOST_READ = 2_000_000


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.headings: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT or tag in _HEADINGS or tag == "title":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        said = " ".join(data.split())
        if not said or any(tag in _SILENT for tag in self._open):
            return
        if "title" in self._open:
            self.title += said
            return
        if self._open:
            self.headings.append(said)
        self.text.append(said)


def accepts(text: str) -> bool:
    head = text[:1_000].lstrip().lower()
    return head.startswith(("<!doctype html", "<html")) or ("<head" in head and "<body" in text[:100_000].lower())


def read(text: str) -> Show:
    reader = _Reader()
    reader.feed(text[:_MOST_READ])
    body = "\n".join(reader.text)

    def show(room: int) -> str:
        headings = head_and_tail("; ".join(reader.headings), room // 3)
        head = "\n".join(part for part in (reader.title[:200], f"headings: {headings}" if headings else "") if part)
        return f"{head}\n{head_and_tail(body, room - len(head) - 1)}".lstrip()

    return show


KIND = Kind("text/html", accepts, read)
