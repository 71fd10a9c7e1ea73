"""The one place that writes to a store.

A batch is written at once, by the thread that brings it, when nothing is in the way: no other batch is waiting, no
other process holds the lock, and the disk need not be waited for. Everything else goes to the writer thread, which
commits whatever is queued as a group. The direct way is there because a hop to a thread and back costs more than the
write: 240 us of CPU against 95 for five events and two messages (CPython 3.11, 2 cores, November 2026).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

from wherry.errors import StoreError
from wherry.failpoints import failpoint
from wherry.store.batches import BatchWriter
from wherry.store.connections import Connections
from wherry.store.database import Connection
from wherry.store.failures import as_store_error, primary_code
from wherry.store.group_thread import GroupThread
from wherry.store.records import Batch

Job: TypeAlias = "Batch | Callable[[sqlite3.Connection], Any]"  # Any: what the job returns is its caller's matter
_Queued: TypeAlias = "tuple[Job, Future[Any]]"


def _checkpoint_marker(_: sqlite3.Connection) -> None:
    """Stands in the queue for a checkpoint; never run as a job."""


_CHECKPOINT: _Queued = (_checkpoint_marker, Future())


def _done(result: object) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


_WRITTEN = _done(None)
"""Of all that was written at once: making a future takes 5 us, a tenth of the writing."""

DIRECT_BYTES = 256 * 1024
"""More than this goes to the writer thread, so that an event loop does not stop for it."""
CHECKPOINT_BYTES = 2 * 1024 * 1024
CHECKPOINT_BATCHES = 128
"""After so much was written directly, the writer thread moves the write-ahead log into the database."""


def no_lock(connection: Connection, *names: str) -> None:
    """Nothing to do: a transaction that writes has the database for itself from its BEGIN IMMEDIATE on."""


class Writer:
    """Writes batches, and runs other jobs that write, each in a transaction."""

    def __init__(self, connections: Connections, *, direct: bool) -> None:
        self._connections = connections
        self._direct = direct
        self._thread = GroupThread(self._work, url=connections.url)
        self._counting = threading.Lock()
        """Over `_waiting`; never held while something is written."""
        self._waiting = 0
        self._batches = BatchWriter(no_lock)
        """Used under the write lock only."""
        self._unmerged_bytes = 0
        self._unmerged_batches = 0

    def submit(self, job: Job) -> Future[Any]:
        """Write; the future is done when it is committed.

        Raises:
            StoreError: The store is closed or was opened before a fork.
        """
        self._connections.check_usable()
        size = _size(job)
        lock = self._connections.write_lock
        if self._direct and size <= DIRECT_BYTES and not self._waiting and lock.acquire(blocking=False):
            try:
                if not self._waiting and not self._connections.closed:
                    done = self._write_directly(job, size)
                    if done is not None:
                        return done
            finally:
                lock.release()
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # what was handed over is written: nobody can cancel it
        with self._counting:
            self._waiting += 1
        try:
            self._thread.put((job, future))
        except BaseException:
            self._done_waiting(1)
            raise
        return future

    def close(self) -> None:
        """Write what is queued, then end the thread and close the connections."""
        if self._thread.close():
            self._connections.close()

    def _done_waiting(self, count: int) -> None:
        with self._counting:
            self._waiting -= count

    def _write_directly(self, job: Job, size: int) -> Future[Any] | None:
        """What the job came to, well or badly; None: another process is writing. The write lock is held."""
        connection = self._connections.prompt
        failpoint("transaction.begin")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if primary_code(error) == sqlite3.SQLITE_BUSY:
                return None
            return _failed(as_store_error(error, self._connections.url))
        try:
            result = self._batches.write(connection, job) if isinstance(job, Batch) else job(connection)
            failpoint("transaction.commit")
            connection.execute("COMMIT")
            failpoint("transaction.committed")
        except BaseException as error:  # KeyboardInterrupt must not leave a transaction open
            self._roll_back(connection)
            if not isinstance(error, Exception):
                raise
            return _failed(as_store_error(error, self._connections.url) if isinstance(error, sqlite3.Error) else error)
        self._unmerged_bytes += size
        self._unmerged_batches += 1
        if self._unmerged_bytes > CHECKPOINT_BYTES or self._unmerged_batches >= CHECKPOINT_BATCHES:
            self._unmerged_bytes = self._unmerged_batches = 0
            if not self._connections.in_memory:
                with contextlib.suppress(StoreError):  # closing does it anyway
                    self._thread.put(_CHECKPOINT)
        return _WRITTEN if result is None else _done(result)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        self._batches.forget_heads()
        if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
            connection.execute("ROLLBACK")

    def _work(self, group: list[_Queued]) -> None:
        """What the writer thread does."""
        jobs = [queued for queued in group if queued is not _CHECKPOINT]
        if jobs:
            try:
                with self._connections.write_lock:
                    self._commit(jobs)
            finally:
                self._done_waiting(len(jobs))
        if len(jobs) < len(group):
            self._checkpoint()

    def _commit(self, group: list[_Queued]) -> None:
        """Write a group in one transaction; if that fails, each job in its own: one must not fail the others."""
        connection = self._connections.patient
        failpoint("transaction.begin")
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            for _, future in group:
                future.set_exception(as_store_error(error, self._connections.url))
            return
        if not self._transact(connection, group, settle_failure=len(group) == 1):
            for queued in group:
                self._commit([queued])

    def _transact(self, connection: sqlite3.Connection, group: list[_Queued], *, settle_failure: bool = True) -> bool:
        """Do the jobs and commit; the transaction is begun already. Whether it was committed."""
        try:
            write = self._batches.write
            results = [write(connection, job) if isinstance(job, Batch) else job(connection) for job, _ in group]
            failpoint("transaction.commit")
            connection.execute("COMMIT")
            failpoint("transaction.committed")
        except BaseException as error:  # KeyboardInterrupt must not leave a transaction open
            self._roll_back(connection)
            ends = not isinstance(error, Exception)
            if settle_failure or ends:
                told = as_store_error(error, self._connections.url) if isinstance(error, sqlite3.Error) else error
                for _, future in group:
                    future.set_exception(told)
            if ends:
                raise
            return settle_failure
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)
        return True

    def _checkpoint(self) -> None:
        """Move the log into the database, most of it while others write, the rest while they wait."""
        try:
            failpoint("checkpoint.begin")
            self._connections.patient.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            failpoint("checkpoint.half")
            with self._connections.write_lock:
                self._connections.patient.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            failpoint("checkpoint.end")
        except sqlite3.Error:
            return  # the log keeps everything; the next checkpoint tries again, and writers report what stays broken


def _size(job: Job) -> int:
    if not isinstance(job, Batch):
        return 0
    size = 0
    for event in job.events:
        size += len(event.body)
    for _, body in job.messages:
        size += len(body)
    return size
