"""A store in a PostgreSQL database."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.store.batches import BatchWriter
from wherry.store.contents import Contents
from wherry.store.database import Connection, Database
from wherry.store.group_thread import GroupThread
from wherry.store.parts import MemoElsewhere
from wherry.store.postgres_connections import PostgresDatabase, Unanswered
from wherry.store.postgres_search import TSIndex
from wherry.store.records import Batch
from wherry.store.sql import SQLStore

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
_Queued = tuple[Batch, Future[None]]


class PostgresStore(SQLStore):
    """Journal, sessions, memo, index and artifacts in one database, for any number of processes and machines.

    Batches are written by one thread, which commits whatever is queued as a group. Everything else is written by the
    thread that calls, on a connection of a pool, and takes a few round trips.

    Args:
        url: `postgresql://user:password@host:port/database`, as libpq takes it.
        schema: The schema that holds the tables; made if it is not there.
        timeout: Seconds to wait for a server that is gone, as during a restart.
        contents: Where the artifacts' contents are; None: in the database.
        memo: A memo that is kept elsewhere; None: in the database.

    Raises:
        MissingExtra: psycopg is not installed.
        ConfigurationError: The URL is none.
        StoreError: The server cannot be reached, or refuses.
        StoreVersionError: A newer wherry wrote the store.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "wherry",
        timeout: float = 30.0,
        contents: Contents | None = None,
        memo: MemoElsewhere | None = None,
    ) -> None:
        connections = PostgresDatabase(url, schema=schema, timeout=timeout)
        writer = GroupWriter(connections)
        database = _Open(connections)
        # Runs when the store and all of its parts are collected and at the end of the process, whichever is first.
        finalizer = weakref.finalize(database, writer.close)
        super().__init__(
            database,
            contents=contents or DatabaseContents(database),
            search=TSIndex(database),
            append=writer.submit,
            memo=memo,
            close=finalizer,
        )


class _Open:
    """The database as the parts have it: while one of them is in use, it is open."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.url = database.url
        self.check_usable = database.check_usable
        self.lock = database.lock
        self.now = database.now

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.read(query, values)

    def write(self, job: Callable[[Connection], T], /, *, repeatable: bool = False) -> T:
        return self._database.write(job, repeatable=repeatable)


class DatabaseContents:
    """Artifacts' contents in a table of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, sha256: str, data: bytes, *, connection: Connection | None = None) -> None:
        row = (bytes.fromhex(sha256), data)

        def write(connection: Connection) -> None:
            if connection.execute("SELECT 1 FROM artifact_contents WHERE sha256 = ?", row[:1]).fetchone() is None:
                query = "INSERT INTO artifact_contents (sha256, data) VALUES (?, ?) ON CONFLICT DO NOTHING"
                connection.execute(query, row)

        if connection is None:
            self._database.write(write, repeatable=True)
        else:
            write(connection)

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        query, values = "SELECT substr(data, ?::int) FROM artifact_contents WHERE sha256 = ?", [offset + 1]
        if limit is not None:
            query, values = query.replace("?::int", "?::int, ?::int"), [offset + 1, min(limit, 1 << 30)]
        rows = self._database.read(query, (*values, bytes.fromhex(sha256)))
        if not rows:
            raise KeyError(sha256)
        return rows[0][0]

    def remove(self, sha256: str, *, connection: Connection | None = None) -> None:
        def delete(connection: Connection) -> None:
            connection.execute("DELETE FROM artifact_contents WHERE sha256 = ?", (bytes.fromhex(sha256),))

        if connection is None:
            self._database.write(delete, repeatable=True)
        else:
            delete(connection)

    def names(self, *, before: float) -> Iterator[tuple[str, int]]:
        for sha256, size in self._database.read("SELECT sha256, length(data) FROM artifact_contents"):
            yield sha256.hex(), size


class GroupWriter:
    """The thread that writes batches, on a connection of its own."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._batches = BatchWriter(database.lock)
        self._thread = GroupThread(self._commit, url=database.url)
        self._raw: psycopg.Connection[tuple[Any, ...]] | None = None

    def submit(self, batch: Batch) -> Future[None]:
        """Write; the future is done when it is committed.

        Raises:
            StoreError: The store is closed or was opened before a fork.
        """
        self._database.check_usable()
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what was handed over is written: nobody can cancel it
        self._thread.put((batch, future))
        return future

    def close(self) -> None:
        """Write what is queued, then end the thread and close the connections."""
        if self._thread.close():
            if self._raw is not None:
                self._raw.close()
            self._database.close()

    def _commit(self, group: list[_Queued]) -> None:
        """Write a group in one transaction; if that fails, each batch in its own: one must not fail the others."""
        again = False

        def job(connection: Connection) -> None:
            for batch, _ in group:
                self._batches.write(connection, batch, again=again)

        def act() -> None:
            nonlocal again
            try:
                self._transact(job)
            except Unanswered:
                again = True  # it may have been written: then it is found and passed over
                raise

        try:
            self._database.persist(act, unanswered=True)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who wait for the batches
            self._batches.forget_heads()
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for queued in group:
                self._commit([queued])
            return
        for _, future in group:
            future.set_result(None)

    def _transact(self, job: Callable[[Connection], None]) -> None:
        if self._raw is None or self._raw.closed:
            self._batches.forget_heads()
            self._raw = self._database.connect()
        try:
            self._database.transact(self._raw, job)
        except BaseException:
            self._batches.forget_heads()
            raise
