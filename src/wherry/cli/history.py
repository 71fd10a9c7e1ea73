"""`wherry runs` and `wherry show`: what the store has."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from wherry.cli.ending import Exit, complain, print_json
from wherry.errors import ConfigurationError, RunNotFound
from wherry.journal import Event, EventType, read_events
from wherry.journal.finding import Found, Progress, RunFilter, catch_up, find_runs
from wherry.journal.process import is_interrupted
from wherry.messages import Message, Usage
from wherry.observe.console import Console
from wherry.observe.costs import aligned, dollars
from wherry.observe.lines import seconds
from wherry.observe.visible import one_line, visible
from wherry.store import RunRow, Store, open_store
from wherry.store.terms import terms
from wherry.tools import as_text

EXCERPT_CHARS = 100
LOOKED_THROUGH = 100_000
"""Newest runs among which the beginning of an id is looked for."""


INTERRUPTED = "interrupted"
"""What is shown of a run without an end whose process is gone; its status in the store is `running`."""
STATUSES = ("running", "completed", "max_steps", "limit", "waiting", "cancelled", "failed")


def list_runs(wanted: RunFilter, *, limit: int, search: str | None, as_json: bool) -> Exit:
    """One line a run, newest first; with `search` best first, and below each where it was found.

    Raises:
        ConfigurationError: there is no such status.
        RunNotFound: no run's id begins like the parent's.
    """
    if wanted.status is not None and wanted.status not in STATUSES:
        raise ConfigurationError(f"no run has the status {wanted.status!r}", hint=f"there are {', '.join(STATUSES)}")
    found: list[Found] = []
    store = open_store()
    try:
        if wanted.parent is not None:
            wanted = replace(wanted, parent=find_run(store, wanted.parent).run_id)
        if search is None:
            rows = wanted.rows(store, limit=limit)
        else:
            catch_up(store, tell=_reading())
            found = find_runs(store, search, wanted, limit=limit)
            rows = [one.run for one in found]
        rows = [replace(row, status=INTERRUPTED) if is_interrupted(store, row) else row for row in rows]
    finally:
        store.close()
    excerpts = [excerpt(one.text, search or "") for one in found]
    if as_json:
        for number, row in enumerate(rows):
            place = {} if not found else {"found": {**found[number].place._asdict(), "text": excerpts[number]}}
            print_json(_row_json(row) | place)
        return Exit.DONE
    if not rows:
        nothing = search is None and wanted in (RunFilter(), RunFilter(children=True))
        sys.stdout.write("no runs yet\n" if nothing else "no such runs\n")
        return Exit.DONE
    table = [("run", "started", "status", "agent", "session", "took", "requests", "tokens", "USD", "task")]
    table += [_cells(row) for row in rows]
    tasks = [cells[-1] for cells in table]
    below = ["", *(f"    {_where(one)}: {text}\n" for one, text in zip(found, excerpts, strict=True))]
    below += [""] * (len(table) - len(below))
    for line, task, more in zip(aligned([cells[:-1] for cells in table], left=5), tasks, below, strict=True):
        sys.stdout.write(f"{line}  {task}\n{more}")
    return Exit.DONE


def excerpt(text: str, query: str) -> str:
    """A line of a text, where the first of a query's words is said that can be seen in it."""
    folded = text.casefold()
    places = (folded.find(term.words[0]) for term in terms(query))
    place = next((place for place in places if place >= 0), 0)
    start = max(0, place - EXCERPT_CHARS // 3)
    return ("..." if start else "") + one_line(text[start:], EXCERPT_CHARS)


def _where(found: Found) -> str:
    place = found.place
    run = "" if place.run_id == found.run.run_id else f" of {place.run_id}"
    return f"{place.kind}, record {place.seq}{run}"


def _reading() -> Callable[[Progress], None]:
    """Says to a person who waits what they wait for, once."""
    started, told = time.monotonic(), False

    def tell(progress: Progress) -> None:
        nonlocal told
        if not told and time.monotonic() > started + 1:
            told = True
            complain("reading what was said since the last search; the next one is quicker")

    return tell


def show_run(run_id: str, *, as_json: bool) -> Exit:
    """The events of a run and of all runs below it, each child's where its agent was called.

    Raises:
        RunNotFound: no run's id begins like that, or several do.
    """
    store = open_store()
    try:
        top = find_run(store, run_id)
        if as_json:
            from wherry.cli.running import event_json

            for event in events_of_tree(store, top.run_id):
                print_json(event_json(event))
            return Exit.DONE
        finished: Event | None = None
        with Console() as console:
            for event in events_of_tree(store, top.run_id):
                console(event)
                if event.run_id == top.run_id and event.type in (EventType.RUN_FINISHED, EventType.RUN_RESUMED):
                    finished = event if event.type is EventType.RUN_FINISHED else None
                if console.broken:
                    return Exit.CLOSED
            if finished is None:
                console.note(
                    "the run has no end yet: it is under way, or its process died; "
                    f"in that case `wherry resume {top.run_id}` goes on with it"
                )
            else:
                output = output_of(store, finished)
                if output is not None:
                    console.answer(as_text(output))
            console.close()
            console.summary()
        return Exit.CLOSED if console.broken else Exit.DONE
    finally:
        store.close()


def output_of(store: Store, finished: Event) -> Any:
    """What a run answered, from its last event; a large answer is in an artifact."""
    ref = finished.payload["ref"]
    if (said := finished.payload.get("said")) is not None:
        return Message.decode(store.message(said)).content
    if ref is None:
        return finished.payload["output"]
    text = store.artifacts.read(ref).decode("utf-8", "surrogatepass")
    return json.loads(text) if store.artifacts.info(ref).media_type == "application/json" else text


def last_event(store: Store, run_id: str) -> Event | None:
    """A run's last record; None while it has none.

    Raises:
        StoreError: it was pruned, or cannot be read.
    """
    row = store.last_event(run_id)
    return None if row is None else next(iter(read_events(store, run_id, after=row.seq - 1)), None)


def find_run(store: Store, beginning: str) -> RunRow:
    """The one run whose id is, or begins with, `beginning`.

    Raises:
        RunNotFound: there is none, or there are several.
    """
    try:
        return store.run(beginning)
    except RunNotFound:
        found = [row for row in store.runs(limit=LOOKED_THROUGH, children=True) if row.run_id.startswith(beginning)]
    if len(found) == 1 and beginning:
        return found[0]
    if not found or not beginning:
        raise RunNotFound(f"no run's id begins with {beginning!r}", hint="`wherry runs` lists them")
    some = ", ".join(row.run_id for row in found[:5])
    raise RunNotFound(f"{len(found)} runs' ids begin with {beginning!r}: {some}", hint="give more of the id")


def events_of_tree(store: Store, run_id: str) -> Iterator[Event]:
    """A run's events; after each call of a managed agent, the events of the run that it started."""
    for event in read_events(store, run_id):
        yield event
        if event.type is EventType.AGENT_CALLED:
            try:
                yield from events_of_tree(store, str(event.payload["run_id"]))
            except RunNotFound:
                continue  # the process died before the child's first record was written


def _row_json(row: RunRow) -> dict[str, object]:
    return {
        "run_id": row.run_id,
        "parent_run_id": row.parent_run_id,
        "agent": row.agent,
        "task": row.task,
        "status": row.status,
        "session": row.session,
        "model": row.model,
        "started": row.started,
        "finished": row.finished,
        "usage": None if row.usage is None else dict(row.usage),
    }


def _cells(row: RunRow) -> tuple[str, ...]:
    usage = Usage() if row.usage is None else Usage.from_json(row.usage)
    took = "" if row.finished is None else seconds(row.finished - row.started)
    return (
        row.run_id,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started)),
        row.status,
        visible(row.agent),
        one_line(row.session or "", 20),
        took,
        f"{usage.requests:,}",
        f"{usage.input_tokens + usage.output_tokens:,}",
        dollars(usage.usd),
        one_line(row.task, 60),
    )
