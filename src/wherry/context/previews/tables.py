"""CSV and TSV: the columns, the number of rows, the first rows and the last."""

from __future__ import annotations

import csv
from functools import partial

from wherry.context.previews.kinds import Kind, Show
from wherry.context.previews.text import head_and_tail

_SAMPLE = 20


def _delimiter(text: str) -> str | None:
    """The one that divides the first lines into the same number of cells, at least two."""
    lines = [line for line in text[:20_000].splitlines()[:_SAMPLE] if line.strip()]
    if len(text) > 20_000 and len(lines) > 1 and len(lines) < _SAMPLE:
        lines.pop()  # cut short
    if len(lines) < 3:
        return None
    for delimiter in ("\t", ",", ";"):
        if delimiter not in lines[0]:
            continue
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() >= 2:
            return delimiter
    return None


def accepts(text: str) -> bool:
    return _delimiter(text) is not None


def read(text: str) -> Show:
    return partial(_show, text)


def _show(text: str, room: int) -> str:
    delimiter = _delimiter(text) or ","
    first = text[:20_000].splitlines()[0]
    columns = next(csv.reader([first], delimiter=delimiter))
    names = head_and_tail(", ".join(columns), max(room // 3, 0))
    lines = text.count("\n") + (0 if text.endswith("\n") else 1)
    head = f"{len(columns)} columns: {names}\n{lines - 1:,} lines below the first"
    return f"{head}\n{head_and_tail(text, room - len(head) - 1)}"


KIND = Kind("text/csv", accepts, read)
