"""CSV and TSV: the columns, the number of rows, the first rows and the last."""

from __future__ import annotations

import csv

from wherry.context.previews.kinds import Kind, Show, plain
from wherry.context.previews.text import head_and_tail

_SAMPLE = 20
_BEGINNING = 20_000


def _delimiter(text: str) -> str | None:
    """The one that divides the first lines into the same number of cells, at least two."""
    lines = _lines(text)
    if len(lines) < 3:
        return None
    for delimiter in ("\t", ",", ";", "|"):
        if delimiter not in lines[0]:
            continue
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() >= 2:
            return delimiter
    return None


def _lines(text: str) -> list[str]:
    """The first lines that have something in them, whole."""
    lines = [line for line in text[:_BEGINNING].splitlines()[:_SAMPLE] if line.strip()]
    if len(text) > _BEGINNING and 1 < len(lines) < _SAMPLE:
        lines.pop()  # cut short
    return lines


def accepts(text: str) -> bool:
    return _delimiter(text) is not None


def read(text: str) -> Show:
    delimiter = _delimiter(text)
    if delimiter is None:
        return plain(text)
    columns = next(csv.reader(_lines(text), delimiter=delimiter))
    listed = ", ".join(columns)
    rows = text.count("\n") + (0 if text.endswith("\n") else 1) - 1

    def show(room: int) -> str:
        head = f"{len(columns)} columns: {head_and_tail(listed, max(room // 3, 0))}\n{rows:,} lines below the first"
        return f"{head}\n{head_and_tail(text, room - len(head) - 1)}"

    return show


KIND = Kind("text/csv", accepts, read)
