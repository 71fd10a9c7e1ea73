"""Small values by scope and key, in SQLite."""

from __future__ import annotations

import sqlite3
import time

from wherry.messages import JSON, canonical, parse
from wherry.store.connections import Connections
from wherry.store.writer import Writer, blob, text


class SQLiteMemo:
    """A table of JSON values."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections = connections
        self._writer = writer

    def get(self, scope: str, key: str) -> JSON:
        with self._connections.reading() as connection:
            query = "SELECT value FROM memo WHERE scope = ? AND key = ?"
            row = connection.execute(query, (blob(scope), blob(key))).fetchone()
        return None if row is None else parse(row[0])

    def set(self, scope: str, key: str, value: JSON) -> None:
        row = (blob(scope), blob(key), canonical(value), time.time())

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO memo (scope, key, value, saved) VALUES (?, ?, ?, ?)", row)

        self._writer.submit(write).result()

    def delete(self, scope: str, key: str) -> bool:
        row = (blob(scope), blob(key))

        def write(connection: sqlite3.Connection) -> bool:
            return connection.execute("DELETE FROM memo WHERE scope = ? AND key = ?", row).rowcount > 0

        return self._writer.submit(write).result()

    def list(self, scope: str) -> dict[str, JSON]:
        with self._connections.reading() as connection:
            query = "SELECT key, value FROM memo WHERE scope = ? ORDER BY key"
            rows = connection.execute(query, (blob(scope),)).fetchall()
        return {text(key): parse(value) for key, value in rows}
