"""A store in one SQLite database, on disk or in memory."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wherry.store.connections import Connections
from wherry.store.contents import Contents, FolderContents, MemoryContents
from wherry.store.database import Connection
from wherry.store.parts import MemoElsewhere
from wherry.store.search import FTSIndex
from wherry.store.sql import SQLStore
from wherry.store.writer import Writer, no_lock

T = TypeVar("T")


class SQLiteDatabase:
    """SQLite as the parts of a store see it. Its one writer at a time is every job's lock."""

    lock = staticmethod(no_lock)

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections = connections
        self._writer = writer
        self.url = connections.url
        self.check_usable = connections.check_usable

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connections.reading() as connection:
            return connection.execute(query, values).fetchall()

    def write(self, job: Callable[[Connection], T], /, *, repeatable: bool = False) -> T:
        return self._writer.submit(job).result()

    def now(self, connection: Connection) -> float:
        return time.time()


class SQLiteStore(SQLStore):
    """Journal, sessions, memo and artifacts in one database; its artifacts' contents are in a folder beside it.

    Args:
        path: The database's file; None for one in memory, which is gone when the store is closed.
        url: How the store is named in errors.
        full: Wait for the disk at every commit. Without it a power cut can take the last commits (never the
            database); the end of the process, `kill -9` included, takes nothing.
        timeout: Seconds to wait while another process writes.
        contents: Where the artifacts' contents are; None: in the folder beside, or in memory.
        memo: A memo that is kept elsewhere; None: in the database.

    Raises:
        StoreError: The database cannot be opened or is none of wherry's.
        StoreVersionError: A newer wherry wrote it.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        url: str | None = None,
        full: bool = False,
        timeout: float = 10.0,
        contents: Contents | None = None,
        memo: MemoElsewhere | None = None,
    ) -> None:
        self.path = path
        url = url if url is not None else "memory://" if path is None else f"sqlite:///{path}"
        connections = Connections(path, url, full=full, timeout=timeout)
        # With `full` every commit waits for the disk; an event loop must not.
        writer = Writer(connections, direct=not full)
        database = SQLiteDatabase(connections, writer)
        if contents is None:
            contents = MemoryContents() if path is None else FolderContents(path.with_name(f"{path.name}.artifacts"))
        # Runs when the store and all of its parts are collected and at the end of the process, whichever is first.
        finalizer = weakref.finalize(database, writer.close)
        super().__init__(
            database, contents=contents, search=FTSIndex(database), append=writer.submit, close=finalizer, memo=memo
        )
