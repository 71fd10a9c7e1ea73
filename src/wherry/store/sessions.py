"""Sessions: a state each, and how often it was saved."""

from __future__ import annotations

import time

from wherry.errors import StoreConflict
from wherry.failpoints import failpoint
from wherry.redaction import redact_json
from wherry.store.database import Connection, Database, blob


class SQLSessions:
    """A row a session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, session: str, state: bytes, *, expected: int | None) -> int:
        state = redact_json(state)

        def write(connection: Connection) -> int:
            self._database.lock(connection, f"session:{session}")
            query = "SELECT revision FROM sessions WHERE session = ?"
            row = connection.execute(query, (blob(session),)).fetchone()
            found = row[0] if row else 0
            if expected is not None and expected != found:
                raise StoreConflict(
                    f"the session {session!r} was saved in between: its revision is {found}, not {expected}",
                    hint="another run went on with the same session: load it again, or give each its own session",
                )
            connection.execute(
                "INSERT INTO sessions (session, state, saved, revision) VALUES (?, ?, ?, ?) ON CONFLICT (session) "
                "DO UPDATE SET state = excluded.state, saved = excluded.saved, revision = excluded.revision",
                (blob(session), state, time.time(), found + 1),
            )
            failpoint("session.saved")
            return found + 1

        return self._database.write(write)

    def load(self, session: str) -> bytes | None:
        rows = self._database.read("SELECT state FROM sessions WHERE session = ?", (blob(session),))
        return rows[0][0] if rows else None

    def revision(self, session: str) -> int:
        rows = self._database.read("SELECT revision FROM sessions WHERE session = ?", (blob(session),))
        return rows[0][0] if rows else 0

    def delete(self, session: str) -> bool:
        row = (blob(session),)
        query = "DELETE FROM sessions WHERE session = ?"
        return self._database.write(lambda connection: connection.execute(query, row).rowcount > 0)
