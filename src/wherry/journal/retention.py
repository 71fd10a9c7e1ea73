"""Removing what was said, and keeping the proof that it was: payloads go, their digests and the chains stay."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from wherry.errors import StoreError
from wherry.failpoints import failpoint
from wherry.journal import finding
from wherry.journal.anchors import PRUNED, anchor
from wherry.journal.chain import Break, walk
from wherry.store import RunRow, Store

WRITING = 3600.0
"""Seconds after which nobody writes on what is no artifact yet."""
_DIGEST = re.compile(rb'"([0-9a-f]{64})"')


@dataclass(slots=True)
class Pruned:
    """What pruning did."""

    runs: list[str] = field(default_factory=list[str])
    """Those whose payloads were removed, children included."""
    bytes: int = 0
    """What that freed, of payloads, messages and artifacts."""
    kept: list[Break] = field(default_factory=list[Break])
    """Runs that were left alone because their journal is not what was written: pruning would remove the evidence."""


def prune(store: Store, *, before: float | None = None, session: str | None = None, dry_run: bool = False) -> Pruned:
    """Remove the payloads, messages, questions to people and artifacts of finished runs, with all runs below them.

    What stays: that the runs were, when, of which agent, how they ended and what they used; the chains, which still can
    be verified, and which have it that and when a run was pruned. Messages and artifacts that other runs refer to stay
    with them. With `session`, its state, its memo and its search index are forgotten too.

    Args:
        before: Only what began before this Unix time.
        session: Only what belongs to this session.
        dry_run: Say which runs it would be, and do nothing.

    Raises:
        ValueError: Neither `before` nor `session` was given.
        StoreError: The store cannot be read or written. What was pruned until then stays pruned.
    """
    if before is None and session is None:
        raise ValueError("prune needs `before`, `session` or both: without them it would remove everything")
    done = Pruned()
    now = time.time()
    rows = store.runs(limit=1 << 31, children=True)
    chosen = [run for run in _trees(rows, before, session) if run.pruned is None]
    if dry_run:
        done.runs = [run.run_id for run in chosen]
        return done
    sessions = {run.session for run in chosen if run.session is not None}
    # Before, since what is pruned is not chosen again after a crash; and behind, in case it was made anew meanwhile.
    _forget_indexes(store, sessions, rows)
    for run in chosen:
        _prune_run(store, run, now, done)
        failpoint("prune.run")
    _forget_indexes(store, sessions, rows)
    if session is not None:
        store.delete_session(session)
        for key in store.memo.list(f"session:{session}"):
            store.memo.delete(f"session:{session}", key)
    gone = set(done.runs)
    left = [run for run in rows if run.run_id not in gone]
    # What a run that goes on has kept may not be named by a record yet.
    since = min([now, *(run.started for run in left if run.finished is None)])
    done.bytes += store.sweep(_named(store, left), before=since)
    failpoint("prune.swept")
    done.bytes += store.artifacts.sweep(before=now - WRITING)
    return done


def _trees(rows: Iterable[RunRow], before: float | None, session: str | None) -> Iterator[RunRow]:
    """The runs to prune: trees of which every run has ended, chosen by their top."""
    by_id = {run.run_id: run for run in rows}
    tops = {run_id: _top(run, by_id) for run_id, run in by_id.items()}
    open_ = {tops[run.run_id].run_id for run in by_id.values() if run.finished is None or run.status == "waiting"}
    for run_id, run in by_id.items():
        top = tops[run_id]
        if (
            top.run_id not in open_
            and (before is None or top.started < before)
            and (session is None or top.session == session)
        ):
            yield run


def _top(run: RunRow, by_id: dict[str, RunRow]) -> RunRow:
    seen = {run.run_id}
    while run.parent_run_id in by_id and run.parent_run_id not in seen:
        seen.add(run.parent_run_id)
        run = by_id[run.parent_run_id]
    return run


def _prune_run(store: Store, run: RunRow, now: float, done: Pruned) -> None:
    hashes: dict[int, bytes | None] = {}
    try:
        records, broken = walk(store, run, hashes)
    except StoreError as error:
        records, broken = 0, Break(run.run_id, 0, error.message)
    if broken is None:
        row = next(store.events(run.run_id, after=records - 1))
        note = anchor(PRUNED, now, run.run_id, parent_run_id=run.parent_run_id, records=records, hash_=row.hash)
        done.bytes += store.artifacts.reclaim(run.run_id)
        store.search.drop(f"recall/run/{run.run_id}")
        for key in store.memo.list(f"run:{run.run_id}"):
            store.memo.delete(f"run:{run.run_id}", key)
        finding.forget(store, run.run_id)
        store.approvals.forget(run.run_id)
        failpoint("prune.reclaimed")
        done.bytes += store.forget(run.run_id, anchor=note)  # last: what is marked as pruned is not looked at again
        done.runs.append(run.run_id)
    else:
        done.kept.append(broken)


def _forget_indexes(store: Store, sessions: Collection[str], rows: Iterable[RunRow]) -> None:
    """Drop the search indexes of sessions, which are made anew of what is left when somebody asks."""
    for name in sessions:
        store.search.drop(f"recall/session/{name}")
    for run in rows:
        if run.session in sessions:
            store.search.drop(f"recall/at/{run.run_id}")


def _named(store: Store, rows: Iterable[RunRow]) -> Iterator[str]:
    """Everything in the records of runs that may be a message's digest."""
    for run in rows:
        for row in store.events(run.run_id):
            for name in _DIGEST.findall(row.body):
                yield name.decode()
