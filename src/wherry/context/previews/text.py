"""Plain text: its head and its tail."""

from __future__ import annotations

_MARK = 40
"""Characters that the note between head and tail takes."""


def head_and_tail(text: str, room: int, *, where: str = "") -> str:
    """Two thirds of the room for the head, one third for the tail, and between them how much is missing.

    Cuts at a line's or a word's end where one is near. `where` says in the note where the rest is to be had.
    """
    if len(text) <= room:
        return text
    mark = _MARK + len(where)
    if where and room <= mark + 16:
        return head_and_tail(text, room)
    if not where and room <= mark * 2:
        return text[: max(room, 0)].rstrip()
    head, tail = (room - mark) * 2 // 3, (room - mark) // 3
    first, last = _end_at_break(text[:head]), _start_at_break(text[-tail:])
    return f"{first}\n[... {len(text) - len(first) - len(last):,} characters left out{where} ...]\n{last}"


def _end_at_break(text: str) -> str:
    for mark in ("\n", " "):
        at = text.rfind(mark, len(text) * 3 // 4)
        if at > 0:
            return text[:at]
    return text


def _start_at_break(text: str) -> str:
    for mark in ("\n", " "):
        at = text.find(mark, 0, len(text) // 4)
        if at >= 0:
            return text[at + 1 :]
    return text
