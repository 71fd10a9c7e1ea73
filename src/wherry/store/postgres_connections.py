"""Connections to PostgreSQL: a pool, transactions, what to do when the server is gone for a while."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from wherry.errors import ConfigurationError, MissingExtra, StoreError, StoreVersionError
from wherry.failpoints import failpoint
from wherry.store.connections import closed_error
from wherry.store.database import Connection
from wherry.store.dialect import postgres, postgres_steps

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import ConnectionPool

T = TypeVar("T")

POOL = 8
"""Most connections of one store, besides the writer's."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts to reach a server that is gone."""


class PostgresConnection:
    """A connection that takes the queries as they are written for SQLite."""

    __slots__ = ("raw",)

    def __init__(self, raw: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.raw = raw

    def execute(self, query: str, values: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        return self.raw.execute(postgres(query), values, binary=True)  # pyright: ignore[reportArgumentType,reportCallIssue] - our own queries, not literals

    def executemany(self, query: str, values: Iterable[Sequence[Any]], /) -> psycopg.Cursor[tuple[Any, ...]]:
        cursor = self.raw.cursor()
        cursor.executemany(postgres(query), values)  # pyright: ignore[reportArgumentType]
        return cursor


class PostgresDatabase:
    """A PostgreSQL database as the parts of a store see it.

    What was lost on the way, because the server was stopped or the network was gone, is tried again until `timeout`
    seconds have passed: a read always, a transaction unless its end was sent and not answered.

    Args:
        url: `postgresql://...` as libpq takes it.
        schema: The tables are in a schema of their own, since their names are everybody's.
        timeout: Seconds to wait for a connection, and for a server that is gone.

    Raises:
        StoreError: The server cannot be reached, or refuses.
        StoreVersionError: A newer wherry wrote the store.
    """

    def __init__(self, url: str, *, schema: str, timeout: float) -> None:
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict, make_conninfo
            from psycopg_pool import ConnectionPool
        except ImportError:
            raise MissingExtra("a store in PostgreSQL", "postgres") from None
        self._psycopg = psycopg
        self.timeout = timeout
        self._pid = os.getpid()
        self.closed = False
        try:
            known = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise ConfigurationError(f"the store's URL cannot be read: {str(error).strip()}") from error
        host, name = known.get("host", "localhost"), known.get("dbname", known.get("user", ""))
        self.url = f"postgresql://{host}:{known.get('port', 5432)}/{name}"
        """Without the password."""
        options = f"{known.get('options') or ''} -c search_path={schema}".strip()
        self._conninfo = make_conninfo(url, options=options, connect_timeout=max(2, int(timeout)))
        self._migrate(schema)
        self._pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]] = ConnectionPool(
            self._conninfo,
            kwargs={"autocommit": True},
            min_size=0,
            max_size=POOL,
            num_workers=1,
            timeout=timeout,
            reconnect_timeout=timeout,
            open=True,
        )

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection outside of the pool."""
        return self._psycopg.connect(self._conninfo, autocommit=True)

    def check_usable(self) -> None:
        if self.closed:
            raise closed_error(self.url)
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self.url!r} was opened before this process was forked; its connections are the parent's",
                hint="call open_store() in the child process, or start it with the spawn method",
            )

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        def fetch() -> list[tuple[Any, ...]]:
            with self._pool.connection() as raw:
                return PostgresConnection(raw).execute(query, values).fetchall()

        return self.persist(fetch)

    def write(self, job: Callable[[Connection], T], /, *, repeatable: bool = False) -> T:
        def act() -> T:
            with self._pool.connection() as raw:
                return self.transact(raw, job)

        return self.persist(act, unanswered=repeatable)

    def transact(self, raw: psycopg.Connection[tuple[Any, ...]], job: Callable[[Connection], T]) -> T:
        """Do a job in a transaction.

        Raises:
            StoreError: The end of the transaction was sent and not answered: nobody knows whether it was done.
        """
        failpoint("transaction.begin")
        raw.execute("BEGIN")
        try:
            result = job(PostgresConnection(raw))
        except BaseException:
            if not raw.closed:
                raw.execute("ROLLBACK")
            raise
        failpoint("transaction.commit")
        try:
            raw.execute("COMMIT")
        except self._psycopg.OperationalError as error:
            if raw.closed:
                raise Unanswered(
                    f"the store {self.url!r} was lost while it wrote: the last change may or may not have been made",
                    hint="read it again before you repeat it",
                ) from error
            raise
        failpoint("transaction.committed")
        return result

    def persist(self, act: Callable[[], T], *, unanswered: bool = False) -> T:
        """Do something until it works, fails for good, or has failed for too long.

        Args:
            unanswered: Whether to try again, too, what may have been done already.
        """
        self.check_usable()
        deadline, pause = time.monotonic() + self.timeout, FIRST_PAUSE
        while True:
            try:
                return act()
            except self._psycopg.Error as error:
                if not self._passing(error) or time.monotonic() > deadline or self.closed:
                    raise self.told(error) from error
            except Unanswered:
                if not unanswered or time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def lock(self, connection: Connection, *names: str) -> None:
        for key in sorted({_key(name) for name in names}):  # in order, or two would wait for one another
            connection.execute("SELECT pg_advisory_xact_lock(?)", (key,))

    def now(self, connection: Connection) -> float:
        return connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()[0]

    def close(self) -> None:
        """Close the connections. In a forked child nothing is touched: they are the parent's."""
        if self.closed or os.getpid() != self._pid:
            return
        self.closed = True
        self._pool.close()

    def told(self, error: psycopg.Error) -> StoreError:
        """What PostgreSQL says went wrong, as an error with a way out."""
        errors = self._psycopg.errors
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what, hint = "failed", None
        if isinstance(error, errors.DiskFull | errors.OutOfMemory | errors.ConfigurationLimitExceeded):
            what, hint = "is full", "make room on the server; everything that was committed is intact"
        elif isinstance(error, errors.ReadOnlySqlTransaction):
            what, hint = "is read-only", "is this a standby? Use the primary server's address"
        elif isinstance(error, errors.InsufficientPrivilege):
            what = "refuses"
            hint = "the user needs the right to create a schema, or a schema of its own in `?schema=NAME`"
        elif isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
            what, hint = "is damaged", "keep a copy of the data folder, then restore a backup"
        elif isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification):
            what, hint = "refuses this user", "look at user and password in the URL, or in PGPASSWORD and ~/.pgpass"
        elif isinstance(error, self._psycopg.OperationalError):
            what = "cannot be reached"
            hint = "does the server run, and is it at this address? Everything that was committed is intact"
        return StoreError(f"the store {self.url!r} {what} (PostgreSQL: {said})", hint=hint)

    def _passing(self, error: psycopg.Error) -> bool:
        """Whether the same may work a little later."""
        errors = self._psycopg.errors
        lasting = errors.DiskFull, errors.OutOfMemory, errors.InvalidPassword, errors.InvalidAuthorizationSpecification
        return isinstance(error, self._psycopg.OperationalError) and not isinstance(error, lasting)

    def _migrate(self, schema: str) -> None:
        """Bring the schema to the newest step, in one transaction; of several processes one does it."""
        steps = postgres_steps()

        def job(connection: Connection) -> None:
            self.lock(connection, f"schema:{schema}")
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            connection.execute("CREATE TABLE IF NOT EXISTS wherry_version (steps INTEGER NOT NULL)")
            row = connection.execute("SELECT steps FROM wherry_version").fetchone()
            found = 0 if row is None else row[0]
            if found > len(steps):
                raise StoreVersionError(
                    f"the store {self.url!r} was written by a newer wherry: it has version {found}, "
                    f"this one knows {len(steps)}",
                    hint="pip install --upgrade wherry, or choose another store with WHERRY_STORE",
                )
            for statements in steps[found:]:
                for statement in statements:
                    raw_execute(connection, statement)
                failpoint("migration.step")
            if row is None:
                connection.execute("INSERT INTO wherry_version (steps) VALUES (?)", (len(steps),))
            elif found < len(steps):
                connection.execute("UPDATE wherry_version SET steps = ?", (len(steps),))
            failpoint("migration.commit")

        def act() -> None:
            with self.connect() as raw:
                row = raw.execute("SELECT to_regclass('wherry_version')").fetchone()
                if row is not None and row[0] is not None:
                    known = raw.execute("SELECT steps FROM wherry_version").fetchone()
                    if known == (len(steps),):
                        return
                self.transact(raw, job)

        self.persist(act, unanswered=True)


class Unanswered(StoreError):
    """The server was lost after a transaction's end was sent: nobody knows whether it was done."""


def raw_execute(connection: Connection, statement: str) -> None:
    """A statement that is in PostgreSQL's words already."""
    assert isinstance(connection, PostgresConnection)  # noqa: S101 - for the type checker
    connection.raw.execute(statement)  # pyright: ignore[reportArgumentType,reportCallIssue]


def _key(name: str) -> int:
    """A name as an advisory lock's number."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big", signed=True)
