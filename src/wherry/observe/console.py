"""A run on the screen, live: a subscriber of the journal that prints every event in its place."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, TypeAlias

from wherry.journal import Event, EventType
from wherry.observe.costs import Costs, aligned
from wherry.observe.lines import Line, lines_of
from wherry.observe.visible import visible

if TYPE_CHECKING:
    from wherry.observe.terminal import Terminal

_ASCII = str.maketrans(
    {"│": "|", "└": "+", "●": "*", "✔": "=", "✘": "x", "→": "->", "…": "...", "▏": "|", "▕": "|"}
    | {"█": "#", "░": ".", "⇣": "v", "·": "-", "─": "-"}
)

Row: TypeAlias = tuple[str, Line]
"""The guides that lead to a line, and the line."""
EMPTY: Row = ("", [])


class Console:
    """Shows runs to a person: agents inside agents, steps, code, tool calls, how full the context is.

    On a terminal with colours and a line that says what is being waited for; elsewhere plain lines without any escape
    sequence. An event costs the same whether it is a run's first or its thousandth. Text that models and tools
    wrote is shown with its control characters spelled out, but for the answer in a pipe.

    Args:
        output: where to; standard output by default.
        terminal: whether it is a terminal; None: ask it.
        closed: called once, when whoever read the output has gone (a closed pipe). Nothing is written after that.

    It may be called from any thread. Use it as a context manager, or call `close`.
    """

    def __init__(
        self, output: TextIO | None = None, *, terminal: bool | None = None, closed: Callable[[], None] | None = None
    ) -> None:
        self._output = output or sys.stdout
        self._closed = closed
        self.broken = False
        """Whether whoever read the output has gone."""
        self.costs = Costs()
        self._lock = threading.RLock()
        self._depths: dict[str, int] = {}
        """Of the runs under way: how many runs are above each."""
        self._last: str | None = None
        """The run that the last line belongs to."""
        self._top: str | None = None
        self._ascii = not _encodes(self._output)
        if terminal is None:
            terminal = self._output.isatty() and os.environ.get("TERM") != "dumb"
        self._terminal: Terminal | None = None
        if terminal:
            from wherry.observe.terminal import Terminal

            self._terminal = Terminal(self._output)

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.costs(event)
            self._show(event)

    def note(self, text: str) -> None:
        """A line of wherry's own, outside any run: `offline: web_search reads the CIA World Factbook`."""
        with self._lock:
            self._write([("", [(visible(text), "yellow")])])

    def answer(self, text: str) -> None:
        """The answer, whole: on a terminal as safe as all else, in a pipe as it is, for a program may read it."""
        with self._lock:
            piped = self._terminal is None and not self._output.isatty()
            rows = (text if piped else visible(text)).split("\n")
            self._write([EMPTY, *(("", [(row, "bold")]) for row in rows)], strip=not piped)

    def summary(self) -> None:
        """Who spent what, and the id of the run shown last; nothing if no run was shown."""
        with self._lock:
            if self._top is None:
                return
            lines = list(aligned([[visible(cell) for cell in row] for row in self.costs.rows()]))
            rule: Row = ("", [("─" * max(len(line) for line in lines), "dim")])
            header, *rows, total = [("", [(line, "")]) for line in lines]
            self._write([EMPTY, header, rule, *rows, rule, total])
            self._write([EMPTY, ("", [("run ", "dim"), (self._top, "bold")])])

    def close(self) -> None:
        """Stop the waiting line. What was printed stays; the console can be used on."""
        with self._lock:
            if self._terminal is not None:
                self._terminal.wait_for(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _show(self, event: Event) -> None:
        run = event.run_id
        if event.type is EventType.RUN_STARTED:
            self._depths[run] = self._depths.get(event.parent_run_id or "", -1) + 1
            if event.parent_run_id is None:
                self._top = run
        depth = self._depths.setdefault(run, 0)
        lines = lines_of(event)
        if lines:
            self._write(self._placed(event, lines, depth))
            self._last = run
        if event.type is EventType.RUN_FINISHED:
            del self._depths[run]
        if self._terminal is not None:
            self._terminal.wait_for(_waiting_for(event, top=depth == 0))

    def _placed(self, event: Event, lines: list[Line], depth: int) -> list[Row]:
        """The lines behind the guides of the runs around them."""
        outer, inner = "│ " * depth, "│ " * (depth + 1)
        if event.type is EventType.RUN_STARTED:
            return [(outer, lines[0]), *((inner, line) for line in lines[1:])]
        if event.type is EventType.RUN_FINISHED:
            mark, *rest = lines[0]
            named: Line = [mark, (visible(event.agent) + " ", "cyan"), *rest]
            return [(outer, named), *((outer, line) for line in lines[1:])]
        rows: list[Row] = [(inner, line) for line in lines]
        last = self._last
        if last is not None and last != event.run_id and self._depths.get(last, -1) >= depth:
            # Another run was on: several work side by side, so say whose line this is.
            rows.insert(0, (inner, [(f"· {visible(event.agent)} ({event.run_id[-4:]})", "dim")]))
        return rows

    def _write(self, rows: Iterable[Row], *, strip: bool = True) -> None:
        if self.broken:
            return
        try:
            if self._terminal is not None:
                for guide, line in rows:
                    self._terminal.write(self._fit(guide), [(self._fit(text), style) for text, style in line])
            else:
                texts = (self._fit(guide + "".join(text for text, _ in line)) for guide, line in rows)
                self._output.write("".join(f"{text.rstrip() if strip else text}\n" for text in texts))
                self._output.flush()
        except BrokenPipeError:
            self.broken = True
            if self._closed is not None:
                self._closed()

    def _fit(self, text: str) -> str:
        return text.translate(_ASCII).encode("ascii", "replace").decode() if self._ascii else text


def _waiting_for(event: Event, *, top: bool) -> str | None:
    """What a run is waiting for after this event, in words."""
    agent = visible(event.agent)
    match event.type:
        case EventType.RUN_STARTED:
            return f"{agent}: getting ready"
        case EventType.MODEL_REQUESTED:
            return f"{agent}: the model is thinking"
        case EventType.CODE_STARTED:
            return f"{agent}: code is running"
        case EventType.TOOL_CALLED:
            return f"{agent}: {visible(str(event.payload['name']))} is running"
        case EventType.RUN_FINISHED if top:
            return None
        case _:
            return f"{agent}: working"


def _encodes(output: TextIO) -> bool:
    try:
        "│▕█░→…".encode(output.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
