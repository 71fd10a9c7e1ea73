"""What agents are made of, as it was seen last, and the records that say it changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from wherry.failpoints import failpoint
from wherry.redaction import redact_bytes, redact_json
from wherry.store.database import Connection, Database, blob, text
from wherry.store.migrations import CHANGES
from wherry.store.records import EventRow

_READ = f"""
SELECT j.run_id, e.id, e.type, e.time, CAST(e.agent AS BLOB), CAST(e.body AS BLOB), e.hash, CAST(e.pruned AS BLOB)
FROM events AS e JOIN journals AS j ON j.id = e.id >> 32 WHERE e.type IN {CHANGES}
"""  # noqa: S608  the words are our own


class SQLChanges:
    """A row a value; the records are the journals' own, found by an index that has no others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, owner: str) -> dict[str, bytes]:
        rows = self._database.read("SELECT key, value FROM kept_versions WHERE owner = ?", (blob(owner),))
        return {text(key): value for key, value in rows}

    def write(self, owner: str, values: Mapping[str, bytes | None]) -> None:
        gone = [(blob(owner), blob(key)) for key, value in values.items() if value is None]
        now = time.time()
        kept = [(blob(owner), blob(key), _clean(value), now) for key, value in values.items() if value is not None]

        def write(connection: Connection) -> None:
            self._database.lock(connection, f"versions:{owner}")
            for row in gone:
                connection.execute("DELETE FROM kept_versions WHERE owner = ? AND key = ?", row)
            for row in kept:
                connection.execute(
                    "INSERT INTO kept_versions (owner, key, value, saved) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (owner, key) DO UPDATE SET value = excluded.value, saved = excluded.saved",
                    row,
                )
            failpoint("versions.written")

        self._database.write(write, repeatable=True)

    def events(
        self, *, since: float | None = None, agent: str | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[EventRow]:
        query = _READ
        values: list[Any] = []
        for condition, value in (
            ("e.time >= ?", since),
            ("e.agent = ?", None if agent is None else blob(agent)),
            ("j.run_id = ?", run_id),
        ):
            if value is not None:
                query += f" AND {condition}"
                values.append(value)
        rows = self._database.read(f"{query} ORDER BY e.time DESC, e.id DESC LIMIT ?", (*values, limit))
        return [
            EventRow(of, number & 0xFFFFFFFF, type_, when, text(name), body, hash_, pruned)
            for of, number, type_, when, name, body, hash_, pruned in reversed(rows)
        ]


def _clean(value: bytes) -> bytes:
    """Without secrets. Of what is JSON, digests are left as they are: they are compared with later ones."""
    try:
        return redact_json(value) if value.startswith(b"{") else redact_bytes(value)
    except ValueError:
        return redact_bytes(value)
