"""A terminal: styled lines, and one line at the bottom that says what is being waited for, and for how long."""

from __future__ import annotations

import sys
import time
from typing import TextIO

import rich.console
from rich.live import Live
from rich.syntax import Syntax
from rich.text import Text

from wherry.observe.lines import CODE, Line

REFRESHES_PER_SECOND = 4
"""The spinner is all that moves by itself; the model may be using the same processor."""
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Terminal:
    """Writes lines above a waiting line that erases itself."""

    def __init__(self, output: TextIO) -> None:
        # No markup, emoji or highlighting: "[red]" in a model's words is text.
        self._rich = rich.console.Console(file=output, force_terminal=True, markup=False, emoji=False, highlight=False)
        self._syntax: Syntax | None = None
        self._live: Live | None = None
        self._waiting = ""
        self._since = 0.0

    def write(self, guide: str, line: Line) -> None:
        """Print a line; where it is too long and wraps, the guide goes before every row of it."""
        text = self._text(line)
        room = max(20, self._rich.width - len(guide))
        rows = text.wrap(self._rich, room) if text.cell_len > room else [text]
        self._rich.print(Text("\n").join([Text().append(guide, "dim").append_text(row) for row in rows or [text]]))

    def wait_for(self, what: str | None) -> None:
        """Show what is being waited for from now on; None: nothing any more."""
        if what is None:
            if self._live is not None:
                self._live.stop()
                self._live = None
            return
        if what != self._waiting:
            self._waiting, self._since = what, time.monotonic()
        if self._live is None:
            self._since = time.monotonic()
            self._live = Live(
                console=self._rich,
                get_renderable=self._line,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=sys.stderr.isatty(),  # a file gets what it is sent, unchanged
            )
            self._live.start()

    def _line(self) -> Text:
        seconds = time.monotonic() - self._since
        turn = SPINNER[int(seconds * REFRESHES_PER_SECOND) % len(SPINNER)]
        passed = f" {seconds:.0f} s" if seconds >= 1 else ""
        return Text(f"{turn} {self._waiting}{passed}", style="dim", no_wrap=True, overflow="ellipsis")

    def _text(self, line: Line) -> Text:
        text = Text()
        for part, style in line:
            if style == CODE:
                text.append_text(self._highlighted(part))
            else:
                text.append(part, style)
        return text

    def _highlighted(self, code: str) -> Text:
        if self._syntax is None:
            self._syntax = Syntax("", "python", theme="ansi_dark", background_color="default")
        highlighted = self._syntax.highlight(code)
        highlighted.rstrip()
        return highlighted
