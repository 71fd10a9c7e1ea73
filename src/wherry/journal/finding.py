"""Finding runs: by what is known of them, and by what was said in them.

The text index is made when somebody searches, not while agents run, and holds the texts of all runs. What is new since
the last time is found by the chain of all runs, so that the time that takes does not grow with what there was before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from wherry.errors import RunNotFound
from wherry.journal.anchors import noted
from wherry.journal.events import EventType
from wherry.journal.run_texts import Place, pieces, place_of
from wherry.store import RunRow, Store

SPACE = "runs"
_BATCH_ITEMS, _BATCH_CHARS = 256, 1 << 20
"""What is indexed in one transaction."""
_OPEN = 1000
"""Newest runs without an end that are looked at: many of them died long ago."""
_FIRST, _MOST = 200, 12_800
"""Pieces that are asked for: at first, and at most, some 50 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are meant. What is None leaves all."""

    session: str | None = None
    status: str | None = None
    agent: str | None = None
    model: str | None = None
    since: float | None = None
    """Unix time: those that started then or later."""
    before: float | None = None
    parent: str | None = None
    """Those that this run started itself."""
    children: bool = False
    """Also those that agents started."""

    def rows(self, store: Store, *, limit: int) -> list[RunRow]:
        """The runs, newest first."""
        return store.runs(
            limit=limit,
            session=self.session,
            children=self.children,
            before=self.before,
            parent=self.parent,
            since=self.since,
            status=self.status,
            agent=self.agent,
            model=self.model,
        )

    def matches(self, row: RunRow) -> bool:
        """Whether `rows` would give this one."""
        if self.parent is None and not self.children and row.parent_run_id is not None:
            return False
        if self.status == "running" and row.finished is not None:
            return False
        names = (self.session, self.status, self.agent, self.model, self.parent)
        found = (row.session, row.status, row.agent, row.model, row.parent_run_id)
        if any(name is not None and name != other for name, other in zip(names, found, strict=True)):
            return False
        return (self.since is None or row.started >= self.since) and (self.before is None or row.started < self.before)


@dataclass(frozen=True, slots=True)
class Found:
    """A run, and the place in it, or in a run below it, that speaks most of the words."""

    run: RunRow
    place: Place
    text: str
    """The piece that was found, some 4,000 characters at most."""


@dataclass(slots=True)
class Progress:
    """How far the index has come."""

    runs: int = 0
    """Those that were indexed now."""
    complete: bool = True
    """Whether all is in the index; else the time was up."""


Told = Callable[[Progress], None]


def find_runs(store: Store, query: str, wanted: RunFilter, *, limit: int = 20) -> list[Found]:
    """The runs in which words of a text were said, best first. Any text is a query. Ask `catch_up` first.

    Each run is found once. What was said in a run that an agent started is found as the run at its top, unless
    `wanted` asks for children.

    Raises:
        StoreError: The store cannot be read.
    """
    asked = _FIRST
    while True:
        hits = store.search.find(SPACE, query, limit=asked)
        found: dict[str, Found] = {}
        tops: dict[str, RunRow | None] = {}
        for hit in hits:
            place = place_of(hit.key)
            if place.run_id not in tops:
                tops[place.run_id] = _shown(store, place.run_id, wanted)
            row = tops[place.run_id]
            if row is not None and row.run_id not in found and wanted.matches(row):
                found[row.run_id] = Found(row, place, hit.text)
                if len(found) >= limit:
                    break
        if len(found) >= limit or len(hits) < asked or asked >= _MOST:
            return list(found.values())
        asked = min(_MOST, asked * 8)


def catch_up(store: Store, *, seconds: float | None = None, tell: Told | None = None) -> Progress:
    """Index what was said since the last time.

    Several processes may do it at once. What is pruned leaves the index with it.

    Args:
        seconds: Stop after so many, one run at least, with all that was done kept; None: go on to the end.
        tell: Called after each run.

    Raises:
        StoreError: The store cannot be read or written.
    """
    index = _Index(store, None if seconds is None else time.monotonic() + seconds, tell)
    for position, run_id in _ended(store, store.search.cursor(SPACE)):
        if run_id is not None:
            index.run(run_id)
        index.reached(position)
        if index.late():
            return index.progress
    index.write()
    for row in store.runs(status="running", children=True, limit=_OPEN):
        index.open_run(row.run_id)
        if index.late():
            return index.progress
    index.write()
    return index.progress


def forget(store: Store, run_id: str) -> None:
    """Take a run's texts out of the index."""
    store.search.forget(SPACE, f"{run_id} ")
    store.search.drop(_at(run_id))


def _at(run_id: str) -> str:
    """A space without items, whose cursor is the last record of an open run that is in the index."""
    return f"runs/at/{run_id}"


def _shown(store: Store, run_id: str, wanted: RunFilter) -> RunRow | None:
    """The run that stands for one in which something was found; None for one that is not there any more."""
    try:
        row = store.run(run_id)
        while row.parent_run_id is not None and not wanted.children and wanted.parent is None:
            row = store.run(row.parent_run_id)
    except RunNotFound:
        return None
    return row


def _ended(store: Store, after: int) -> Iterator[tuple[int, str | None]]:
    """The records of the chain of all runs behind a position, and the run of each that says that one ended."""
    for row in store.anchors(after=after):
        note = noted(row)
        ended = note is not None and note["kind"] == EventType.RUN_FINISHED
        yield row.position, str(note["run_id"]) if note is not None and ended else None


@dataclass(slots=True)
class _Index:
    store: Store
    deadline: float | None
    tell: Told | None
    progress: Progress = field(default_factory=Progress)
    _items: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _chars: int = 0
    _cursor: int | None = None
    _then: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """What is true when the items are written."""

    def run(self, run_id: str) -> None:
        """Index a run that has ended."""
        at = self.store.search.cursor(_at(run_id))
        for piece in pieces(self.store, run_id, after=at):
            self._add(*piece)
        if at:
            self._then.append(partial(self.store.search.drop, _at(run_id)))
        self._did_one()

    def open_run(self, run_id: str) -> None:
        """Index what is new of a run that goes on."""
        at = self.store.search.cursor(_at(run_id))
        last = self.store.last_event(run_id)
        if last is None or last.seq <= at:
            return
        for piece in pieces(self.store, run_id, after=at):
            self._add(*piece)
        self._then.append(partial(self.store.search.add, _at(run_id), (), cursor=last.seq))
        self._did_one()

    def reached(self, position: int) -> None:
        """All runs that ended before this position of the chain of all runs are among the items."""
        self._cursor = position

    def late(self) -> bool:
        """Whether the time is up; then all that was read is written, and something is left for the next time."""
        if self.deadline is None or not self.progress.runs or time.monotonic() < self.deadline:
            return False
        self.write()
        self.progress.complete = False
        return True

    def write(self) -> None:
        if self._items or self._cursor is not None:
            self.store.search.add(SPACE, self._items, cursor=self._cursor)
        for act in self._then:
            act()
        self._items.clear()
        self._then.clear()
        self._chars, self._cursor = 0, None

    def _add(self, key: str, text: str) -> None:
        self._items.append((key, text))
        self._chars += len(text)
        if len(self._items) >= _BATCH_ITEMS or self._chars >= _BATCH_CHARS:
            self.write()

    def _did_one(self) -> None:
        self.progress.runs += 1
        if self.tell is not None:
            self.tell(self.progress)
