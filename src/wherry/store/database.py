"""What the parts of a store ask of a database, whichever it is: run a query, do a job in a transaction.

Queries are written once, in the SQL that SQLite and PostgreSQL share, with `?` for values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Cursor(Protocol):
    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...  # Any: the row is what the query says
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """A connection inside a transaction."""

    def execute(self, query: str, values: Sequence[Any] = ..., /) -> Cursor: ...
    def executemany(self, query: str, values: Iterable[Sequence[Any]], /) -> Cursor: ...


class Database(Protocol):
    """A database that a store is on."""

    @property
    def url(self) -> str: ...

    def check_usable(self) -> None:
        """
        Raises:
            StoreError: The store is closed, or was opened before a fork.
        """
        ...

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, without waiting for writers."""
        ...

    def write(self, job: Callable[[Connection], T], /, *, repeatable: bool = False) -> T:
        """Do a job in a transaction and wait until it is durable. The job may be done twice, the first time undone.

        Args:
            repeatable: Whether it may be done again, too, when nobody knows whether it was done.
        """
        ...

    def lock(self, connection: Connection, *names: str) -> None:
        """Until the transaction ends, keep out every other job that locks one of the names, in any process."""
        ...

    def now(self, connection: Connection) -> float:
        """Unix time, by a clock that all processes share as far as there is one."""
        ...


def blob(text: str) -> bytes:
    """Text as it is stored: UTF-8, lone surrogates kept."""
    return text.encode("utf-8", "surrogatepass")


def text(data: bytes) -> str:
    """The text of a `blob`. What was tampered with gives some other text, which its chain or its reader then finds."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")
