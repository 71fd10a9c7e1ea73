"""Bytes that may be forgotten, in a table."""

from __future__ import annotations

import time

from wherry.store.database import Connection, Database, blob

PAGE = 500


class SQLCache:
    """A table of values with the time at which each is over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> bytes | None:
        query = "SELECT value FROM cache WHERE key = ? AND (expires IS NULL OR expires > ?)"
        rows = self._database.read(query, (blob(key), time.time()))
        return rows[0][0] if rows else None

    def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        now = time.time()
        row = (blob(key), value, now, None if ttl is None else now + ttl)

        def write(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO cache (key, value, saved, expires) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
                "SET value = excluded.value, saved = excluded.saved, expires = excluded.expires",
                row,
            )

        self._database.write(write, repeatable=True)

    def prune(self, *, keep_bytes: int | None = None) -> int:
        now = time.time()

        def write(connection: Connection) -> int:
            freed: int = connection.execute(
                "SELECT coalesce(sum(length(value)), 0) FROM cache WHERE expires <= ?", (now,)
            ).fetchone()[0]
            connection.execute("DELETE FROM cache WHERE expires <= ?", (now,))
            if keep_bytes is None:
                return freed
            held: int = connection.execute("SELECT coalesce(sum(length(value)), 0) FROM cache").fetchone()[0]
            while held > keep_bytes:
                query = "SELECT key, length(value) FROM cache ORDER BY saved, key LIMIT ?"
                gone: list[tuple[bytes]] = []
                for key, size in connection.execute(query, (PAGE,)).fetchall():
                    if held <= keep_bytes:
                        break
                    gone.append((key,))
                    held -= size
                    freed += size
                connection.executemany("DELETE FROM cache WHERE key = ?", gone)
            return freed

        return self._database.write(write, repeatable=True)
