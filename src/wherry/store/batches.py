"""Writing a batch inside a transaction: the same for every database that speaks SQL."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from itertools import pairwise

from wherry.errors import StoreConflict, StoreError
from wherry.failpoints import failpoint
from wherry.messages import canonical
from wherry.store.database import Connection, blob
from wherry.store.records import Batch, EventRow, RunRow

HEADS = 4096
FIRST_ANCHOR = bytes(32)

# The time says that somebody uses a message that was there already: `sweep` leaves it then.
_INSERT_MESSAGE = """
INSERT INTO messages (digest, body, saved) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET saved = excluded.saved
"""
_INSERT_EVENT = """
INSERT INTO events (id, type, time, agent, body, hash) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
_HEAD = """
SELECT j.id, (SELECT max(e.id) FROM events AS e WHERE e.id > j.id << 32 AND e.id < (j.id + 1) << 32)
FROM journals AS j WHERE j.run_id = ?
"""
_UPSERT_RUN = """
INSERT INTO runs (run_id, parent_run_id, agent, task, status, session, started, finished, usage, model)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET agent = excluded.agent, task = excluded.task, status = excluded.status,
session = excluded.session, started = excluded.started, finished = excluded.finished, usage = excluded.usage,
model = excluded.model
"""
_LAST_ANCHOR = "SELECT position, hash FROM anchors ORDER BY position DESC LIMIT 1"


class BatchWriter:
    """Writes batches, and remembers where the runs end that it wrote."""

    def __init__(self, lock: Callable[[Connection, str], None]) -> None:
        self._lock = lock
        self._heads: dict[str, tuple[int, int, bytes | None]] = {}
        """Run -> its journal's number, its last sequence number and hash; only the thread that writes looks here."""

    def forget_heads(self) -> None:
        """A transaction was rolled back, or its end is not known."""
        self._heads.clear()

    def write(self, connection: Connection, batch: Batch, *, again: bool = False) -> None:
        """Write a batch; the caller ends the transaction.

        Args:
            again: The batch may be in the database already: then it is passed over.

        Raises:
            StoreError: Its events do not follow what is stored of their run.
        """
        if batch.messages:
            now = time.time()
            messages = [(bytes.fromhex(name), body, now) for name, body in batch.messages]
            if len(messages) > 1:
                messages.sort()  # two that write the same messages in another order would wait for one another
            connection.executemany(_INSERT_MESSAGE, messages)
            failpoint("batch.messages")
        if batch.events:
            number = self._expect(connection, batch, again=again)
            if number is None:
                return
            high = number << 32
            rows = [
                (high | seq, type_, when, blob(agent), body, hash_)
                for _, seq, type_, when, agent, body, hash_, _ in batch.events
            ]
            if connection.executemany(_INSERT_EVENT, rows).rowcount != len(rows):
                first = batch.events[0]
                raise overtaken(first.run_id, first.seq, "another process has appended to it")
            if len(self._heads) >= HEADS:
                self._heads.clear()
            last = batch.events[-1]
            self._heads[last.run_id] = number, last.seq, last.hash
            failpoint("batch.events")
        if batch.run is not None:
            connection.execute(_UPSERT_RUN, _row(batch.run))
            failpoint("batch.run")
        if batch.anchors:
            add_anchors(connection, batch.anchors, self._lock)
            failpoint("batch.anchors")

    def _expect(self, connection: Connection, batch: Batch, *, again: bool) -> int | None:
        """The number of the run's journal, if the batch follows what is stored; None when it is stored already.

        The head that is remembered may be too low when another process wrote; then the unique key refuses the batch.
        """
        first = batch.events[0]
        for before, event in pairwise(batch.events):
            if event.run_id != first.run_id or event.seq != before.seq + 1:
                raise StoreError(f"a batch of run {first.run_id!r} holds events of two runs or with a gap", hint=None)
        known = self._heads.get(first.run_id)
        if known is None:
            row = connection.execute(_HEAD, (first.run_id,)).fetchone()
            if row is None:
                connection.execute("INSERT INTO journals (run_id) VALUES (?) ON CONFLICT DO NOTHING", (first.run_id,))
                row = connection.execute(_HEAD, (first.run_id,)).fetchone()
            number, newest = row
            known = number, (newest or 0) & 0xFFFFFFFF, b"" if newest is None else _hash(connection, newest)
        number, head, hash_ = known
        follows = first.seq == head + 1
        if follows and (not head or batch.after in (None, hash_)):
            return number
        if again and _stored(connection, number, batch.events[-1]):
            return None
        why = "the record before it is another process's" if follows else f"the store's last one is {head}"
        raise overtaken(first.run_id, first.seq, why)


def add_anchors(connection: Connection, bodies: tuple[bytes, ...], lock: Callable[[Connection, str], None]) -> None:
    """Add records to the chain of all runs."""
    lock(connection, "anchors")
    position, before = connection.execute(_LAST_ANCHOR).fetchone() or (0, FIRST_ANCHOR)
    for body in bodies:
        position += 1
        before = hashlib.sha256(before + body).digest()
        connection.execute("INSERT INTO anchors (position, body, hash) VALUES (?, ?, ?)", (position, body, before))


def overtaken(run_id: str, seq: int, why: str) -> StoreConflict:
    return StoreConflict(
        f"run {run_id!r} cannot be appended to at record {seq}: {why}",
        hint="another process goes on with this run, or an earlier append failed; only one may advance a run at a time",
        run_id=run_id,
    )


def _stored(connection: Connection, number: int, event: EventRow) -> bool:
    """Whether this very record is there: its hash binds all before it."""
    return _hash(connection, number << 32 | event.seq) == event.hash


def _hash(connection: Connection, id: int) -> bytes | None:
    row = connection.execute("SELECT hash FROM events WHERE id = ?", (id,)).fetchone()
    return None if row is None else bytes(row[0])


def _row(run: RunRow) -> tuple[object, ...]:
    return (
        run.run_id,
        run.parent_run_id,
        blob(run.agent),
        blob(run.task),
        run.status,
        None if run.session is None else blob(run.session),
        run.started,
        run.finished,
        None if run.usage is None else canonical(run.usage),
        None if run.model is None else blob(run.model),
    )
