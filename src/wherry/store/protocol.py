"""What every store does.

The docstrings say what a backend's tests check:

* A batch is written whole or not at all, and batches of one run in the order of their `append` calls.
* A batch whose first event does not follow the run's last stored one fails with StoreError; nothing of it is stored.
* What a done future reported, and what `save_session` or any method of the parts wrote, is still there after `kill -9`.
* Texts and bytes come back as they were given, lone surrogates and NUL included. But for secrets (`wherry.redaction`):
  sessions, memo, search index and artifacts of text are written without them. What is in a batch was cleaned before it
  was hashed; the cache is not.
* Reading never waits for writing.
* A closed store, and one that came through a fork, refuses all use with StoreError.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from wherry.store.parts import Approvals, Artifacts, Cache, Changes, Memo, Rates, TextIndex, Transcripts
from wherry.store.records import AnchorRow, Batch, EventRow, RunRow


@runtime_checkable
class Store(Protocol):
    """Where runs are kept. Safe for threads; every method may be called from an event loop."""

    url: str

    @property
    def memo(self) -> Memo: ...

    @property
    def artifacts(self) -> Artifacts: ...

    @property
    def search(self) -> TextIndex: ...

    @property
    def transcripts(self) -> Transcripts: ...

    @property
    def cache(self) -> Cache: ...

    @property
    def rates(self) -> Rates: ...

    @property
    def approvals(self) -> Approvals: ...

    @property
    def changes(self) -> Changes: ...

    def append(self, batch: Batch) -> Future[None]:
        """Write a batch; the future is done when it is durable, and may be so on return.

        Raises:
            StoreError: The store is closed. Every other failure is in the future.
        """
        ...

    def events(self, run_id: str, *, after: int = 0) -> Iterator[EventRow]:
        """The committed records of a run with a sequence number above `after`, in order."""
        ...

    def last_event(self, run_id: str) -> EventRow | None:
        """The last committed record of a run; None when it has none."""
        ...

    def message(self, digest: str) -> bytes:
        """The message of that digest, checked against it.

        Raises:
            StoreError: It is missing or damaged.
        """
        ...

    def messages(self, digests: Collection[str]) -> dict[str, bytes]:
        """Those of the messages that the store has, by digest, as they are stored: not checked against it.

        Raises:
            StoreError: One of `digests` is no digest.
        """
        ...

    def run(self, run_id: str) -> RunRow:
        """What is known of a run.

        Raises:
            RunNotFound: The store has no such run.
        """
        ...

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
        """Runs, newest first.

        Args:
            limit: At most so many.
            session: Of that session only.
            children: Also those that agents started.
            before: Those that started before a Unix time.
            parent: Those that this run started itself, summaries included.
            since: Those that started at a Unix time or later.
            status: Those with that status; `"running"` for those that have no end.
            agent: Those of an agent of that name.
            model: Those that were begun with a model of that name.
        """
        ...

    def anchors(self, *, after: int = 0) -> Iterator[AnchorRow]:
        """The records of the chain of all runs with a position above `after`, in order."""
        ...

    def last_anchor(self) -> AnchorRow | None:
        """The end of the chain of all runs; None while it is empty."""
        ...

    def forget(self, run_id: str, *, anchor: bytes) -> int:
        """Remove the payloads of a run's records, which keep the payloads' digests, and its task; bytes freed.

        `anchor` is noted in the chain of all runs, in the same transaction. Messages and artifacts stay: see `sweep`
        and `artifacts.reclaim`.
        """
        ...

    def sweep(self, used: Iterable[str], *, before: float) -> int:
        """Remove messages that are neither among `used` nor in a transcript and were last kept before a time.

        Returns how many bytes that freed.
        """
        ...

    def save_session(self, session: str, state: bytes, *, expected: int | None = None) -> int:
        """Keep a session's state in place of the one before; its new revision, one more than before.

        Args:
            expected: The revision that is to be replaced; 0: none was saved yet. Exactly one of several callers with
                the same number gets through.

        Raises:
            StoreConflict: The revision is another; nothing was saved.
        """
        ...

    def load_session(self, session: str) -> bytes | None:
        """The state that was saved last; None when there is none."""
        ...

    def session_revision(self, session: str) -> int:
        """How often the session was saved; 0 when never.

        Ask before `load_session`: then a save in between makes the later save with `expected` fail, never pass.
        """
        ...

    def delete_session(self, session: str) -> bool:
        """Forget a session's state; whether there was one."""
        ...

    def close(self) -> None:
        """Write what is queued and close. Closing twice is no error."""
        ...
