"""What the parts of a store do. The docstrings say what a backend's tests check.

Whatever a call here wrote is durable before the call returns, and seen by every other process that has the same store
open. Where a docstring says *exactly one*, that holds between processes too.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from typing import Protocol

from wherry.messages import JSON
from wherry.store.records import ApprovalRow, ArtifactRef, Entry, EventRow, Hit, Participant


class Memo(Protocol):
    """Small values by scope and key."""

    def get(self, scope: str, key: str) -> JSON:
        """The value; None when there is none, or when its time is over."""
        ...

    def set(self, scope: str, key: str, value: JSON, *, ttl: float | None = None) -> None:
        """Store a value, in place of the one that was there, for `ttl` seconds or for good.

        Raises:
            TypeError: `value` holds something that JSON cannot carry.
            ValueError: The value, or the scope with it, would be larger than a memo may be; nothing was written.
        """
        ...

    def compare_and_set(self, scope: str, key: str, *, expected: JSON, value: JSON, ttl: float | None = None) -> bool:
        """Store `value` if the present one equals `expected`; None stands for no value, on both sides.

        Of several callers with the same `expected`, exactly one gets True.

        Raises:
            TypeError: `value` or `expected` holds something that JSON cannot carry.
            ValueError: The value, or the scope with it, would be larger than a memo may be; nothing was written.
        """
        ...

    def delete(self, scope: str, key: str) -> bool:
        """Whether there was a value."""
        ...

    def list(self, scope: str) -> dict[str, JSON]:
        """All values of a scope, by key, in the order of the keys' bytes."""
        ...

    def scopes(self) -> builtins.list[str]:
        """The scopes that have values, in the order of their bytes."""
        ...

    def prune(self) -> int:
        """Remove what has outlived its time; how many values that were."""
        ...


class MemoElsewhere(Memo, Protocol):
    """A memo that is not in its store's database, and is closed with the store."""

    def close(self) -> None: ...


class Artifacts(Protocol):
    """Large values, stored once under their content."""

    def put(self, data: bytes, *, media_type: str, run_id: str) -> ArtifactRef:
        """Store `data` for a run. The same content gets the same reference, whoever stored it first."""
        ...

    def read(self, ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        """At most `limit` bytes from `offset`. Content that is read whole is checked against its digest.

        Raises:
            StoreError: There is no such artifact, or it is damaged.
            ValueError: `offset` or `limit` is negative.
        """
        ...

    def info(self, ref: str) -> ArtifactRef:
        """What is known of an artifact.

        Raises:
            StoreError: There is no such artifact.
        """
        ...

    def link(self, ref: str, run_id: str) -> None:
        """Note that a run, or whatever else has that name, refers to an artifact. Linking twice is linking once.

        Raises:
            StoreError: There is no such artifact.
        """
        ...

    def reclaim(self, run_id: str) -> int:
        """Undo all links of a run and remove what nobody refers to any more; how many bytes that freed.

        What is put or linked by another process at the same time is either kept whole or refused to that process.
        """
        ...

    def sweep(self, *, before: float) -> int:
        """Remove contents that belong to no artifact: what processes left that died in a `put` or a `reclaim`.

        Args:
            before: Of writes that have not ended, only what was begun before this Unix time.

        Returns how many bytes that freed.
        """
        ...


class TextIndex(Protocol):
    """Full text by spaces: one of a run, one of a folder of documents. A key names an item within its space."""

    def add(self, space: str, items: Iterable[tuple[str, str]], *, cursor: int | None = None) -> None:
        """Index items, each a key and a text, and remember `cursor`; all of it or nothing.

        A key that is there already gets the new text. Takes time in proportion to the text: some 0.1 s a megabyte.
        """
        ...

    def cursor(self, space: str) -> int:
        """The number that `add` was given last; 0 when there was none."""
        ...

    def find(self, space: str, query: str, *, limit: int = 10) -> list[Hit]:
        """Items with any of the query's words, best first: many, rare and adjacent ones make a good hit.

        Every text is a query, never a syntax error; one without a letter or digit finds nothing. Case and accents do
        not matter; a word of four letters or more finds longer ones that begin with it; scripts that are written
        without blanks, such as Chinese, are found by any part.
        """
        ...

    def forget(self, space: str, prefix: str) -> None:
        """Take out the items whose keys begin with `prefix`; the cursor stays."""
        ...

    def drop(self, space: str) -> None:
        """Forget a space: its items and its cursor."""
        ...


class Transcripts(Protocol):
    """Conversations of many participants, each entry stored once for all of them."""

    def append(self, transcript: str, author: str, digest: str, *, expected: int | None = None) -> int:
        """Add an entry; its position, from 1. Concurrent appends get different positions, without gaps.

        Args:
            digest: The name of a message that the store has, or gets.
            expected: The position that the entry must get: exactly one of several callers gets it.

        Raises:
            StoreConflict: The next position is another than `expected`; nothing was added.
        """
        ...

    def read(self, transcript: str, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """The entries with a position above `after`, in order, at most `limit`."""
        ...

    def length(self, transcript: str) -> int:
        """How many entries there are, which is the last one's position."""
        ...

    def participant(self, transcript: str, name: str) -> Participant | None:
        """What was saved of a participant; None when nothing was."""
        ...

    def save_participant(self, transcript: str, participant: Participant) -> None:
        """Keep a participant's state in place of the one before."""
        ...


class Cache(Protocol):
    """Bytes by key, which may be forgotten at any time."""

    def get(self, key: str) -> bytes | None:
        """The value; None when there is none, or when its time is over."""
        ...

    def put(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Keep a value in place of the one before, for `ttl` seconds or until it is pruned."""
        ...

    def prune(self, *, keep_bytes: int | None = None) -> int:
        """Remove what has outlived its time, then the oldest until `keep_bytes` are left; how many bytes that freed."""
        ...


class Rates(Protocol):
    """Rate limits that all processes keep together: the generic cell rate algorithm, one number a key.

    A key has room for `burst` units, which fills again at `rate_per_minute`. What is taken in any time of `t` minutes
    is at most `burst + t * rate_per_minute`, over all processes.
    """

    def take(self, key: str, *, cost: float, rate_per_minute: float, burst: float) -> float:
        """Take `cost` units; 0.0 when they were taken, else the seconds after which it is worth trying again.

        Nothing is taken when the answer is not 0.0. A cost above `burst` is taken when there is room for a whole burst,
        and the ones after it wait so much longer.

        Raises:
            ValueError: `cost` is negative, or `rate_per_minute` or `burst` is not above 0.
        """
        ...

    def give_back(self, key: str, *, cost: float, rate_per_minute: float) -> None:
        """Undo the taking of `cost` units: the request was not sent, or was cheaper than thought."""
        ...


class Approvals(Protocol):
    """Questions and their answers. Each is answered once."""

    def put(self, row: ApprovalRow) -> None:
        """Keep a question. If there is one of that id already, nothing changes."""
        ...

    def get(self, id: str) -> ApprovalRow | None:
        """The question of that id; None when there is none."""
        ...

    def decide(self, id: str, decision: bytes, at: float) -> bool:
        """Keep the answer to a question; False if there is no such question or it has its answer already.

        Of several callers, exactly one gets True.
        """
        ...

    def find(
        self,
        *,
        run_id: str | None = None,
        root_run_id: str | None = None,
        pending: bool | None = None,
        limit: int = 100,
    ) -> list[ApprovalRow]:
        """Questions, oldest first; with `pending` those without an answer (True) or with one (False)."""
        ...

    def forget(self, run_id: str) -> None:
        """Remove all questions of a run, with their answers."""
        ...


class Changes(Protocol):
    """Values by owner and key, kept for good: what was seen of an agent last, what of it was approved."""

    def read(self, owner: str) -> dict[str, bytes]:
        """All values of an owner, by key."""
        ...

    def write(self, owner: str, values: Mapping[str, bytes | None]) -> None:
        """Keep values in place of those before, all of them or none; None removes one."""
        ...

    def events(
        self, *, since: float | None = None, agent: str | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[EventRow]:
        """The latest records, of all runs, that say that something changed; the oldest of them first.

        Args:
            since: Those of a Unix time or later.
            agent: Those of an agent of that name.
            run_id: Those of a run.
            limit: At most so many.
        """
        ...
