"""A store in one SQLite database, on disk or in memory."""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from wherry.errors import RunNotFound, StoreError
from wherry.messages import parse
from wherry.store.artifacts import FolderContents, MemoryContents, SQLArtifacts
from wherry.store.cache import SQLCache
from wherry.store.connections import Connections
from wherry.store.database import Connection, blob, text
from wherry.store.memo import SQLMemo
from wherry.store.rates import SQLRates
from wherry.store.records import Batch, EventRow, RunRow
from wherry.store.search import FTSIndex
from wherry.store.sessions import SQLSessions
from wherry.store.transcripts import SQLTranscripts, digest_bytes
from wherry.store.writer import Writer

T = TypeVar("T")

PAGE = 500
"""Rows that are read at once: no statement stays open between two events that a caller takes its time with."""

_EVENTS = """
SELECT seq, type, time, CAST(agent AS BLOB), CAST(body AS BLOB), hash FROM events
WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_RUN = "SELECT run_id, parent_run_id, agent, task, status, session, started, finished, usage FROM runs"


class SQLiteDatabase:
    """SQLite as the parts of a store see it. Its one writer at a time is every job's lock."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections = connections
        self._writer = writer
        self.url = connections.url
        self.check_usable = connections.check_usable

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connections.reading() as connection:
            return connection.execute(query, values).fetchall()

    def write(self, job: Callable[[Connection], T], /) -> T:
        return self._writer.submit(job).result()

    def lock(self, connection: Connection, *names: str) -> None:
        """Nothing to do: a transaction that writes has the database for itself from its BEGIN IMMEDIATE on."""

    def now(self, connection: Connection) -> float:
        return time.time()


class SQLiteStore:
    """Journal, sessions, memo and artifacts in one database; its artifacts' contents are in a folder beside it.

    Args:
        path: The database's file; None for one in memory, which is gone when the store is closed.
        url: How the store is named in errors.
        full: Wait for the disk at every commit. Without it a power cut can take the last commits (never the
            database); the end of the process, `kill -9` included, takes nothing.
        timeout: Seconds to wait while another process writes.

    Raises:
        StoreError: The database cannot be opened or is none of wherry's.
        StoreVersionError: A newer wherry wrote it.
    """

    def __init__(
        self, path: Path | None = None, *, url: str | None = None, full: bool = False, timeout: float = 10.0
    ) -> None:
        self.path = path
        self.url = url if url is not None else "memory://" if path is None else f"sqlite:///{path}"
        self._connections = Connections(path, self.url, full=full, timeout=timeout)
        # With `full` every commit waits for the disk; an event loop must not.
        self._writer = Writer(self._connections, direct=not full)
        contents = MemoryContents() if path is None else FolderContents(path.with_name(f"{path.name}.artifacts"))
        database = SQLiteDatabase(self._connections, self._writer)
        self.memo = SQLMemo(database)
        self.artifacts = SQLArtifacts(database, contents)
        self.search = FTSIndex(database)
        self.transcripts = SQLTranscripts(database)
        self.cache = SQLCache(database)
        self.rates = SQLRates(database)
        self._sessions = SQLSessions(database)
        # Runs when the store is collected and at the end of the process, whichever is first.
        self._finalizer = weakref.finalize(self, self._writer.close)

    def append(self, batch: Batch) -> Future[None]:
        return self._writer.submit(batch)

    def events(self, run_id: str, *, after: int = 0) -> Iterator[EventRow]:
        while True:
            with self._connections.reading() as connection:
                rows = connection.execute(_EVENTS, (run_id, after, PAGE)).fetchall()
            for seq, type_, when, agent, body, hash_ in rows:
                yield EventRow(run_id, seq, type_, when, text(agent), body, hash_)
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def message(self, digest: str) -> bytes:
        name = digest_bytes(digest)
        with self._connections.reading() as connection:
            row = connection.execute("SELECT CAST(body AS BLOB) FROM messages WHERE digest = ?", (name,)).fetchone()
        if row is None:
            raise StoreError(f"the store {self.url!r} has no message {digest}")
        if hashlib.sha256(row[0]).digest() != name:
            raise StoreError(f"message {digest} in the store {self.url!r} is damaged: its content has another digest")
        return row[0]

    def messages(self, digests: Collection[str]) -> dict[str, bytes]:
        names = [digest_bytes(digest) for digest in digests]
        found: dict[str, bytes] = {}
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            marks = ", ".join("?" * len(page))
            query = f"SELECT digest, CAST(body AS BLOB) FROM messages WHERE digest IN ({marks})"  # noqa: S608
            with self._connections.reading() as connection:
                rows = connection.execute(query, page).fetchall()
            found.update((name.hex(), body) for name, body in rows)
        return found

    def run(self, run_id: str) -> RunRow:
        with self._connections.reading() as connection:
            row = connection.execute(f"{_RUN} WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise RunNotFound(
                f"there is no run {run_id!r} in the store {self.url!r}",
                hint="`wherry runs` lists them; WHERRY_STORE says which store is meant",
            )
        return _run(row)

    def runs(self, *, limit: int = 50, session: str | None = None, children: bool = False) -> list[RunRow]:
        conditions: list[str] = []
        values: list[Any] = []
        if not children:
            conditions.append("parent_run_id IS NULL")
        if session is not None:
            conditions.append("session = ?")
            values.append(blob(session))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._connections.reading() as connection:
            query = f"{_RUN}{where} ORDER BY started DESC, run_id DESC LIMIT ?"
            rows = connection.execute(query, (*values, limit)).fetchall()
        return [_run(row) for row in rows]

    def save_session(self, session: str, state: bytes, *, expected: int | None = None) -> int:
        return self._sessions.save(session, state, expected=expected)

    def load_session(self, session: str) -> bytes | None:
        return self._sessions.load(session)

    def session_revision(self, session: str) -> int:
        return self._sessions.revision(session)

    def close(self) -> None:
        self._finalizer()


def _run(row: tuple[Any, ...]) -> RunRow:
    run_id, parent, agent, task, status, session, started, finished, usage = row
    return RunRow(
        run_id,
        parent_run_id=parent,
        agent=text(agent),
        task=text(task),
        status=status,
        session=None if session is None else text(session),
        started=started,
        finished=finished,
        usage=None if usage is None else parse(usage),
    )
