"""Text that others wrote, made safe to show on a terminal."""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1: cursor moves, titles, colours, bells
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # direction and line controls: they reorder text
    "\ufeff\ud800-\udfff]"  # byte order marks; lone surrogates, which no terminal's encoding can carry
)


def visible(text: str) -> str:
    r"""`text` with every control character spelled out (`\x1b`), newlines kept and tabs as blanks.

    Models and tools write what they like, escape sequences included; none of it may move a cursor, set a title or
    reorder what a person reads.
    """
    return _CONTROLS.sub(_spelled, text.replace("\r\n", "\n").expandtabs(4))


def one_line(text: str, width: int = 160) -> str:
    """`text` as one safe line of at most `width` characters."""
    # Cut before the work: a preview may be long, and only its head is shown.
    flat = " ".join(visible(text[: 4 * width]).split())
    return flat if len(flat) <= width and len(text) <= 4 * width else flat[: width - 1].rstrip() + "…"


def head(text: str, lines: int, width: int = 160) -> tuple[list[str], int]:
    """The first `lines` safe lines, each at most `width` characters, and how many lines were left out."""
    rows = visible(text).strip("\n").split("\n")
    shown = [row if len(row) <= width else row[: width - 1] + "…" for row in rows[:lines]]
    return shown, max(0, len(rows) - lines)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
