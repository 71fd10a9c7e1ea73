"""Conversations of many participants, in two tables: entries, and who has read how far."""

from __future__ import annotations

from wherry.errors import StoreConflict, StoreError
from wherry.failpoints import failpoint
from wherry.store.database import Connection, Database, blob, text
from wherry.store.records import Entry, Participant


class SQLTranscripts:
    """Entries under their transcript and position."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, transcript: str, author: str, digest: str, *, expected: int | None = None) -> int:
        name = digest_bytes(digest)

        def write(connection: Connection) -> int:
            self._database.lock(connection, f"transcript:{transcript}")
            query = "SELECT coalesce(max(position), 0) FROM transcripts WHERE transcript = ?"
            position = connection.execute(query, (blob(transcript),)).fetchone()[0] + 1
            if expected is not None and expected != position:
                raise StoreConflict(
                    f"the next entry of transcript {transcript!r} is {position}, not {expected}",
                    hint="somebody else wrote in between: read what is new and append again",
                )
            connection.execute(
                "INSERT INTO transcripts (transcript, position, author, digest) VALUES (?, ?, ?, ?)",
                (blob(transcript), position, blob(author), name),
            )
            failpoint("transcript.appended")
            return position

        return self._database.write(write)

    def read(self, transcript: str, *, after: int = 0, limit: int = 100) -> list[Entry]:
        rows = self._database.read(
            "SELECT position, author, digest FROM transcripts WHERE transcript = ? AND position > ? "
            "ORDER BY position LIMIT ?",
            (blob(transcript), after, limit),
        )
        return [Entry(position, text(author), digest.hex()) for position, author, digest in rows]

    def length(self, transcript: str) -> int:
        query = "SELECT coalesce(max(position), 0) FROM transcripts WHERE transcript = ?"
        return self._database.read(query, (blob(transcript),))[0][0]

    def participant(self, transcript: str, name: str) -> Participant | None:
        rows = self._database.read(
            "SELECT position, state FROM participants WHERE transcript = ? AND name = ?", (blob(transcript), blob(name))
        )
        return Participant(name, *rows[0]) if rows else None

    def save_participant(self, transcript: str, participant: Participant) -> None:
        row = (blob(transcript), blob(participant.name), participant.cursor, participant.state)

        def write(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO participants (transcript, name, position, state) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (transcript, name) DO UPDATE SET position = excluded.position, state = excluded.state",
                row,
            )

        self._database.write(write, repeatable=True)


def digest_bytes(digest: str) -> bytes:
    """
    Raises:
        StoreError: `digest` is no message's name.
    """
    try:
        name = bytes.fromhex(digest)
    except ValueError:
        name = b""
    if len(name) != 32:
        raise StoreError(f"{digest!r} is no message's digest", hint="a digest is 64 hexadecimal digits")
    return name
