"""Connections to one SQLite database: who may write, who may read, and when."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from wherry.errors import StoreError
from wherry.store.failures import primary_code, store_errors
from wherry.store.migrations import migrate


class Connections:
    """The connections of one store.

    A file has one for the writer thread (waits for other processes' locks), one for writing at once where nothing is
    in the way (never waits), and as many for reading as are in use at the same time. A database in memory has a single
    connection for everything, since others would not see it.
    """

    def __init__(self, path: Path | None, url: str, *, full: bool, timeout: float) -> None:
        self.url = url
        self.write_lock = threading.RLock()
        """Held while one of this store's connections writes; in memory also while it reads."""
        self._path = path
        self._full = full
        self._timeout = timeout
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self.closed = False
        with store_errors(url):
            if path is not None:
                _create_private(path)
            self.patient = self._open(timeout)
            try:
                self._prepare()
                self.prompt = self.patient if path is None else self._open(0)
            except BaseException:
                self.patient.close()
                raise
            if path is not None:
                # The prompt connection must not stop for a checkpoint's fsync: the writer thread does that.
                self.prompt.execute("PRAGMA wal_autocheckpoint = 0")

    @property
    def in_memory(self) -> bool:
        return self._path is None

    def check_usable(self) -> None:
        """
        Raises:
            StoreError: The store is closed, or was opened before a fork.
        """
        if self.closed:
            raise closed_error(self.url)
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self.url!r} was opened before this process was forked; SQLite does not work across a fork",
                hint="call open_store() in the child process, or start it with the spawn method",
            )

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection, None, None]:
        """A connection to read with; no longer than one statement, so that the write-ahead log can be emptied."""
        self.check_usable()
        with store_errors(self.url):
            if self._path is None:
                with self.write_lock:
                    self.check_usable()
                    yield self.patient
                return
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open(self._timeout)
                connection.execute("PRAGMA query_only = 1")
            try:
                yield connection
            finally:
                self._idle.append(connection)
                if self.closed:
                    self._close_idle()

    def close(self) -> None:
        """Close all. In a forked child nothing is touched: the connections are the parent's."""
        if self.closed or os.getpid() != self._pid:
            return
        with self.write_lock:
            self.closed = True
            self._close_idle()
            self.prompt.close()
            self.patient.close()  # the last one out empties the write-ahead log and removes it

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _open(self, timeout: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:" if self._path is None else self._path,
            timeout=timeout,
            isolation_level=None,  # transactions are begun by hand: a deferred one can fail at its first write
            check_same_thread=False,  # the write lock and the list of idle readers see to it that one thread has it
        )
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._full else 'NORMAL'}")
        connection.execute("PRAGMA secure_delete = ON")  # what is pruned is overwritten
        return connection

    def _prepare(self) -> None:
        if self._path is not None:
            # Going to WAL needs the file for itself, and SQLite does not always wait for that: processes that open a
            # new store at the same time get SQLITE_BUSY at once.
            deadline = time.monotonic() + self._timeout
            while True:
                try:
                    mode = self.patient.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                    break
                except sqlite3.OperationalError as error:
                    if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)
            if mode != "wal":
                raise StoreError(
                    f"the store {self.url!r} cannot have a write-ahead log: SQLite stays in mode {mode!r}",
                    hint="keep the file on a local file system",
                )
        migrate(self.patient, self.url)


def closed_error(url: str) -> StoreError:
    return StoreError(f"the store {url!r} is closed", hint="open it again with open_store()")


def _create_private(path: Path) -> None:
    """Make the file before SQLite does, readable by its owner alone: journals hold what people told their agents.

    SQLite gives its side files the same permissions.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"the store {str(path)!r} cannot be opened: {error.strerror}",
            hint="does its folder exist, is the path a file, and may this user read and write there?",
        ) from error
