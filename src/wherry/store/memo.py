"""Small values by scope and key, in a table of JSON."""

from __future__ import annotations

import builtins
import time

from wherry.failpoints import failpoint
from wherry.messages import JSON, canonical, parse
from wherry.redaction import redact_json
from wherry.store.database import Connection, Database, blob, text

VALUE_BYTES = 1024 * 1024
"""The largest value: beyond it, something is an artifact."""
SCOPE_BYTES = 64 * 1024 * 1024
"""The most that one scope holds, keys and values together."""

_GET = "SELECT value FROM memo WHERE scope = ? AND key = ? AND (expires IS NULL OR expires > ?)"
_LIST = "SELECT key, value FROM memo WHERE scope = ? AND (expires IS NULL OR expires > ?) ORDER BY key"
_SIZE = "SELECT length(key) + length(value) FROM memo WHERE scope = ? AND key = ?"
_GROW = """
INSERT INTO memo_sizes (scope, bytes) VALUES (?, ?)
ON CONFLICT (scope) DO UPDATE SET bytes = memo_sizes.bytes + excluded.bytes
"""


class SQLMemo:
    """A table of JSON values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, scope: str, key: str) -> JSON:
        rows = self._database.read(_GET, (blob(scope), blob(key), time.time()))
        return parse(rows[0][0]) if rows else None

    def set(self, scope: str, key: str, value: JSON, *, ttl: float | None = None) -> None:
        body = encoded(value)

        def write(connection: Connection) -> bool:
            self._database.lock(connection, f"memo:{scope}")
            return _put(connection, scope, key, body, ttl)

        if not self._database.write(write, repeatable=True):
            raise scope_full(scope)

    def compare_and_set(self, scope: str, key: str, *, expected: JSON, value: JSON, ttl: float | None = None) -> bool:
        body, before = encoded(value), redact_json(canonical(expected))

        def write(connection: Connection) -> bool | None:
            self._database.lock(connection, f"memo:{scope}")
            row = connection.execute(_GET, (blob(scope), blob(key), time.time())).fetchone()
            if (row[0] if row else b"null") != before:
                return False
            return _put(connection, scope, key, body, ttl) or None

        done = self._database.write(write)
        if done is None:
            raise scope_full(scope)
        return done

    def delete(self, scope: str, key: str) -> bool:
        name = (blob(scope), blob(key))

        def write(connection: Connection) -> bool:
            self._database.lock(connection, f"memo:{scope}")
            live = connection.execute(_GET, (*name, time.time())).fetchone() is not None
            _remove(connection, *name)
            return live

        return self._database.write(write)

    def list(self, scope: str) -> dict[str, JSON]:
        rows = self._database.read(_LIST, (blob(scope), time.time()))
        return {text(key): parse(value) for key, value in rows}

    def scopes(self) -> builtins.list[str]:
        query = "SELECT DISTINCT scope FROM memo WHERE expires IS NULL OR expires > ? ORDER BY scope"
        return [text(scope) for (scope,) in self._database.read(query, (time.time(),))]

    def prune(self) -> int:
        def write(connection: Connection) -> int:
            now = time.time()
            query = "SELECT DISTINCT scope FROM memo WHERE expires <= ?"
            scopes: list[bytes] = [scope for (scope,) in connection.execute(query, (now,)).fetchall()]
            self._database.lock(connection, *(f"memo:{text(scope)}" for scope in scopes))
            return sum(_expire(connection, scope, now) for scope in scopes)

        return self._database.write(write, repeatable=True)


def encoded(value: JSON) -> bytes:
    """A value as it is stored: without secrets.

    Raises:
        TypeError: `value` holds something that JSON cannot carry.
        ValueError: It is larger than a memo's value may be.
    """
    body = redact_json(canonical(value))
    if len(body) > VALUE_BYTES:
        raise ValueError(
            f"a memo takes values up to {VALUE_BYTES:,} bytes; this one has {len(body):,}: keep it as an artifact"
        )
    return body


def scope_full(scope: str) -> ValueError:
    return ValueError(
        f"the memo's scope {scope!r} is full: it would be larger than {SCOPE_BYTES:,} bytes; delete some of its values"
    )


def _put(connection: Connection, scope: str, key: str, body: bytes, ttl: float | None) -> bool:
    """Write a value and say whether its scope has room for it; the scope's lock is held."""
    now = time.time()
    name = (blob(scope), blob(key))
    if body == b"null":
        _remove(connection, *name)
        return True
    old = connection.execute(_SIZE, name).fetchone()
    grown = len(name[1]) + len(body) - (old[0] if old else 0)
    if grown > 0 and _held(connection, name[0]) + grown > SCOPE_BYTES:
        _expire(connection, name[0], now)
        old = connection.execute(_SIZE, name).fetchone()
        grown = len(name[1]) + len(body) - (old[0] if old else 0)
        if _held(connection, name[0]) + grown > SCOPE_BYTES:
            return False
    connection.execute(
        "INSERT INTO memo (scope, key, value, saved, expires) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, saved = excluded.saved, "
        "expires = excluded.expires",
        (*name, body, now, None if ttl is None else now + ttl),
    )
    failpoint("memo.value")
    if grown:
        connection.execute(_GROW, (name[0], grown))
    failpoint("memo.put")
    return True


def _held(connection: Connection, scope: bytes) -> int:
    row = connection.execute("SELECT bytes FROM memo_sizes WHERE scope = ?", (scope,)).fetchone()
    return row[0] if row else 0


def _remove(connection: Connection, scope: bytes, key: bytes) -> None:
    old = connection.execute(_SIZE, (scope, key)).fetchone()
    if old is not None:
        connection.execute("DELETE FROM memo WHERE scope = ? AND key = ?", (scope, key))
        failpoint("memo.removed")
        connection.execute(_GROW, (scope, -old[0]))


def _expire(connection: Connection, scope: bytes, now: float) -> int:
    """Remove what has outlived its time in a scope; how many values that were."""
    query = "SELECT coalesce(sum(length(key) + length(value)), 0) FROM memo WHERE scope = ? AND expires <= ?"
    (size,) = connection.execute(query, (scope, now)).fetchone()
    if size:
        connection.execute(_GROW, (scope, -int(size)))
    return connection.execute("DELETE FROM memo WHERE scope = ? AND expires <= ?", (scope, now)).rowcount
