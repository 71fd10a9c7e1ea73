"""What every store does.

The docstrings say what a backend's tests check:

* A batch is written whole or not at all, and batches of one run in the order of their `append` calls.
* A batch whose first event does not follow the run's last stored one fails with StoreError; nothing of it is stored.
* What a done future, `memo.set`, `save_session` or `artifacts.put` reported is still there after `kill -9`.
* Texts and bytes come back as they were given, lone surrogates and NUL included.
* Reading never waits for writing.
* A closed store, and one that came through a fork, refuses all use with StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from wherry.messages import JSON
from wherry.store.records import ArtifactRef, Batch, EventRow, RunRow


class Memo(Protocol):
    """Small values by scope and key. What a call did is durable before it returns."""

    def get(self, scope: str, key: str) -> JSON:
        """The value; None when there is none."""
        ...

    def set(self, scope: str, key: str, value: JSON) -> None:
        """Store a value, in place of the one that was there.

        Raises:
            TypeError: `value` holds something that JSON cannot carry.
        """
        ...

    def delete(self, scope: str, key: str) -> bool:
        """Whether there was a value."""
        ...

    def list(self, scope: str) -> dict[str, JSON]:
        """All values of a scope, by key, in the order of the keys' bytes."""
        ...


class Artifacts(Protocol):
    """Large values, stored once under their content."""

    def put(self, data: bytes, *, media_type: str, run_id: str) -> ArtifactRef:
        """Store `data`. The same content gets the same reference, whoever stored it first."""
        ...

    def read(self, ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        """At most `limit` bytes from `offset`. Content that is read whole is checked against its digest.

        Raises:
            StoreError: There is no such artifact, or it is damaged.
        """
        ...

    def info(self, ref: str) -> ArtifactRef:
        """What is known of an artifact.

        Raises:
            StoreError: There is no such artifact.
        """
        ...


@runtime_checkable
class Store(Protocol):
    """Where runs are kept. Safe for threads; every method may be called from an event loop."""

    url: str

    @property
    def memo(self) -> Memo: ...

    @property
    def artifacts(self) -> Artifacts: ...

    def append(self, batch: Batch) -> Future[None]:
        """Write a batch; the future is done when it is durable, and may be so on return.

        Raises:
            StoreError: The store is closed. Every other failure is in the future.
        """
        ...

    def events(self, run_id: str, *, after: int = 0) -> Iterator[EventRow]:
        """The committed records of a run with a sequence number above `after`, in order."""
        ...

    def message(self, digest: str) -> bytes:
        """The message of that digest, checked against it.

        Raises:
            StoreError: It is missing or damaged.
        """
        ...

    def run(self, run_id: str) -> RunRow:
        """What is known of a run.

        Raises:
            RunNotFound: The store has no such run.
        """
        ...

    def runs(self, *, limit: int = 50, session: str | None = None, children: bool = False) -> list[RunRow]:
        """Runs, newest first; with `children` also those that agents started."""
        ...

    def save_session(self, session: str, state: bytes) -> None:
        """Keep a session's state in place of the one before."""
        ...

    def load_session(self, session: str) -> bytes | None:
        """The state that was saved last; None when there is none."""
        ...

    def close(self) -> None:
        """Write what is queued and close. Closing twice is no error."""
        ...
