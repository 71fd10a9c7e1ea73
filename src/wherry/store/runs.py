"""Reading what batches wrote: records, messages, runs, and the chain over all runs. And removing it again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from wherry.errors import RunNotFound, StoreError
from wherry.messages import parse
from wherry.store.batches import add_anchors
from wherry.store.composed import MARK, bases_of, whole
from wherry.store.database import Connection, Database, blob, text
from wherry.store.records import AnchorRow, EventRow, RunRow
from wherry.store.transcripts import digest_bytes

PAGE = 500
"""Rows that are read at once: no statement stays open between two events that a caller takes its time with."""

# The casts: what was tampered with may be of another type, which the chain then finds.
_EVENTS = """
SELECT e.id, CAST(e.type AS BLOB), e.time, CAST(e.agent AS BLOB), CAST(e.body AS BLOB), e.hash, CAST(e.pruned AS BLOB)
FROM events AS e JOIN journals AS j ON e.id > (j.id << 32) + ? AND e.id < (j.id + 1) << 32
WHERE j.run_id = ? ORDER BY e.id LIMIT ?
"""
_LAST_EVENT = """
SELECT e.id, CAST(e.type AS BLOB), e.time, CAST(e.agent AS BLOB), CAST(e.body AS BLOB), e.hash, CAST(e.pruned AS BLOB)
FROM events AS e JOIN journals AS j ON e.id > j.id << 32 AND e.id < (j.id + 1) << 32
WHERE j.run_id = ? ORDER BY e.id DESC LIMIT 1
"""
_RUN = "SELECT run_id, parent_run_id, agent, task, status, session, started, finished, usage, pruned, model FROM runs"
_UNPRUNED = """
SELECT e.id, e.body FROM events AS e JOIN journals AS j ON e.id > j.id << 32 AND e.id < (j.id + 1) << 32
WHERE j.run_id = ? AND e.pruned IS NULL AND e.id > ? ORDER BY e.id LIMIT ?
"""
_USED_IN_TRANSCRIPTS = """
INSERT INTO used (digest) SELECT digest FROM transcripts WHERE true ON CONFLICT DO NOTHING
"""
_UNUSED_BYTES = """
SELECT coalesce(sum(length(body)), 0) FROM messages
WHERE saved < ? AND NOT EXISTS (SELECT 1 FROM used WHERE used.digest = messages.digest)
"""
_KEPT_IN_PIECES = """
SELECT m.digest, m.body FROM messages AS m
WHERE substr(m.body, 1, 1) = ? AND (m.saved >= ? OR EXISTS (SELECT 1 FROM used WHERE used.digest = m.digest))
"""
_DELETE_UNUSED = """
DELETE FROM messages
WHERE saved < ? AND NOT EXISTS (SELECT 1 FROM used WHERE used.digest = messages.digest)
"""


class SQLRuns:
    """The records of runs, in tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self, run_id: str, *, after: int = 0) -> Iterator[EventRow]:
        texts = _Texts()
        while True:
            rows = self._database.read(_EVENTS, (after, run_id, PAGE))
            for number, type_, when, agent, body, hash_, pruned in rows:
                yield EventRow(run_id, number & 0xFFFFFFFF, texts[type_], when, texts[agent], body, hash_, pruned)
            if len(rows) < PAGE:
                return
            after = rows[-1][0] & 0xFFFFFFFF

    def last_event(self, run_id: str) -> EventRow | None:
        rows = self._database.read(_LAST_EVENT, (run_id,))
        if not rows:
            return None
        number, type_, when, agent, body, hash_, pruned = rows[0]
        return EventRow(run_id, number & 0xFFFFFFFF, text(type_), when, text(agent), body, hash_, pruned)

    def message(self, digest: str) -> bytes:
        body = whole(self._stored(digest), self._stored)
        if hashlib.sha256(body).digest() != digest_bytes(digest):
            raise StoreError(
                f"message {digest} in the store {self._database.url!r} is damaged: its content has another digest"
            )
        return body

    def _stored(self, digest: str) -> bytes:
        name = digest_bytes(digest)
        rows = self._database.read("SELECT CAST(body AS BLOB) FROM messages WHERE digest = ?", (name,))
        if not rows:
            raise StoreError(f"the store {self._database.url!r} has no message {digest}")
        return rows[0][0]

    def messages(self, digests: Collection[str]) -> dict[str, bytes]:
        names = [digest_bytes(digest) for digest in digests]
        found: dict[str, bytes] = {}
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            marks = ", ".join("?" * len(page))
            query = f"SELECT digest, CAST(body AS BLOB) FROM messages WHERE digest IN ({marks})"  # noqa: S608
            found.update((name.hex(), body) for name, body in self._database.read(query, page))
        stored: dict[str, bytes] = dict(found)

        def read(name: str) -> bytes:  # messages that are shown together mostly share what they are made of
            if name not in stored:
                stored[name] = self._stored(name)
            return stored[name]

        for name in [name for name, body in found.items() if body.startswith(MARK)]:
            try:
                found[name] = whole(found[name], read)
            except StoreError:
                del found[name]  # a part of it is missing: `message` says which
        return found

    def run(self, run_id: str) -> RunRow:
        rows = self._database.read(f"{_RUN} WHERE run_id = ?", (run_id,))
        if not rows:
            raise RunNotFound(
                f"there is no run {run_id!r} in the store {self._database.url!r}",
                hint="`wherry runs` lists them; WHERRY_STORE says which store is meant",
            )
        return _run(rows[0])

    def runs(
        self,
        *,
        limit: int = 50,
        session: str | None = None,
        children: bool = False,
        before: float | None = None,
        parent: str | None = None,
        since: float | None = None,
        status: str | None = None,
        agent: str | None = None,
        model: str | None = None,
    ) -> list[RunRow]:
        conditions: list[str] = []
        values: list[Any] = []
        if parent is not None:
            conditions.append("parent_run_id = ?")
            values.append(parent)
        elif not children:
            conditions.append("parent_run_id IS NULL")
        wanted: list[tuple[str, Any]] = [
            ("session = ?", None if session is None else blob(session)),
            ("started < ?", before),
            ("started >= ?", since),
            ("status = ?", status),
            ("agent = ?", None if agent is None else blob(agent)),
            ("model = ?", None if model is None else blob(model)),
        ]
        if status == "running":
            conditions.append("finished IS NULL")  # lets the databases use an index that has those alone
        for condition, value in wanted:
            if value is not None:
                conditions.append(condition)
                values.append(value)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"{_RUN}{where} ORDER BY started DESC, run_id DESC LIMIT ?"
        return [_run(row) for row in self._database.read(query, (*values, limit))]

    def anchors(self, *, after: int = 0) -> Iterator[AnchorRow]:
        while True:
            rows = self._database.read(
                "SELECT position, CAST(body AS BLOB), CAST(hash AS BLOB) FROM anchors "
                "WHERE position > ? ORDER BY position LIMIT ?",
                (after, PAGE),
            )
            yield from (AnchorRow(*row) for row in rows)
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def last_anchor(self) -> AnchorRow | None:
        rows = self._database.read(
            "SELECT position, CAST(body AS BLOB), CAST(hash AS BLOB) FROM anchors ORDER BY position DESC LIMIT 1"
        )
        return AnchorRow(*rows[0]) if rows else None

    def forget(self, run_id: str, *, anchor: bytes) -> int:
        def write(connection: Connection) -> int:
            freed = _empty_records(connection, run_id)
            connection.execute("UPDATE runs SET task = ?, pruned = ? WHERE run_id = ?", (b"", time.time(), run_id))
            add_anchors(connection, (anchor,), self._database.lock)
            return freed

        return self._database.write(write, repeatable=True)

    def sweep(self, used: Iterable[str], *, before: float) -> int:
        names = [(digest_bytes(name),) for name in used]

        def write(connection: Connection) -> int:
            connection.execute("CREATE TEMPORARY TABLE used (digest BLOB PRIMARY KEY)")
            connection.executemany("INSERT INTO used (digest) VALUES (?) ON CONFLICT DO NOTHING", names)
            connection.execute(_USED_IN_TRANSCRIPTS)
            _use_bases(connection, before)
            freed = connection.execute(_UNUSED_BYTES, (before,)).fetchone()[0]
            connection.execute(_DELETE_UNUSED, (before,))
            connection.execute("DROP TABLE used")
            return int(freed)

        return self._database.write(write, repeatable=True)


def _use_bases(connection: Connection, before: float) -> None:
    """Add to what is used the messages that those which stay have parts of, and the ones that these have parts of."""
    seen: set[bytes] = set()
    while True:
        rows = connection.execute(_KEPT_IN_PIECES, (MARK, before)).fetchall()
        new = [(bytes(name), bytes(body)) for name, body in rows if bytes(name) not in seen]
        if not new:
            return
        seen.update(name for name, _ in new)
        bases = {digest_bytes(base) for _, body in new for base in bases_of(body)}
        connection.executemany(
            "INSERT INTO used (digest) VALUES (?) ON CONFLICT DO NOTHING", [(base,) for base in sorted(bases)]
        )


class _Texts(dict[bytes, str]):
    """Texts by their bytes: a run has few types and agents and many records."""

    def __missing__(self, key: bytes) -> str:
        found = self[key] = text(key)
        return found


def _empty_records(connection: Connection, run_id: str) -> int:
    """Leave the digests of a run's payloads in place of them; how many bytes these were."""
    freed, last = 0, 0
    while True:
        rows = connection.execute(_UNPRUNED, (run_id, last, PAGE)).fetchall()
        connection.executemany(
            "UPDATE events SET body = ?, pruned = ? WHERE id = ?",
            [(b"", hashlib.sha256(body).digest(), number) for number, body in rows],
        )
        freed += sum(len(body) for _, body in rows)
        if len(rows) < PAGE:
            return freed
        last = rows[-1][0]


def _run(row: tuple[Any, ...]) -> RunRow:
    run_id, parent, agent, task, status, session, started, finished, usage, pruned, model = row
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
        pruned=pruned,
        model=None if model is None else text(model),
    )
