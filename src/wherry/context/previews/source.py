"""Program code: the lines that name what is defined, and the head."""

from __future__ import annotations

import re

from wherry.context.previews.kinds import Kind, Show
from wherry.context.previews.text import head_and_tail

_DEFINITION = re.compile(
    r"^[ \t]{0,64}(?:(?:export|pub|public|private|static|async|abstract) ){0,4}"
    r"(?:def|class|function|fn|func|struct|interface|trait|impl|enum|type) {1,8}[A-Za-z_][^\n]{0,200}",
    re.MULTILINE,
)
_MOST = 400


def accepts(text: str) -> bool:
    sample = text[:50_000]
    lines = sample.count("\n") + 1
    found = sum(1 for _ in _DEFINITION.finditer(sample))
    return found >= 3 and found * 60 > lines and any(mark in sample for mark in ("):", "{", ") ->", "import "))


def read(text: str) -> Show:
    names: list[str] = []
    line, at = 1, 0
    for match in _DEFINITION.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        names.append(f"{line}: {match[0].strip()[:100]}")
        if len(names) == _MOST:
            break
    listed = "\n".join(names)

    def show(room: int) -> str:
        outline = head_and_tail(listed, room // 2)
        return f"defines, by line:\n{outline}\n---\n{head_and_tail(text, room - len(outline) - 24)}"

    return show


KIND = Kind("text/x-source", accepts, read)
