"""What a store keeps, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple


class EventRow(NamedTuple):
    """One record of a run's journal. A tuple, since a run makes several a step and a check reads 100,000 a second."""

    run_id: str
    seq: int
    """From 1, without gaps, in one run; below 2**32."""
    type: str
    time: float
    """Unix time in seconds."""
    agent: str
    body: bytes
    """The payload as canonical JSON; empty when it was pruned."""
    hash: bytes
    """32 bytes that bind this record to all before it; the journal makes and checks them."""
    pruned: bytes | None = None
    """The SHA-256 of a payload that was removed."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """What is known of a run without reading its journal. Written anew whenever it changes."""

    run_id: str
    _: KW_ONLY
    parent_run_id: str | None = None
    """The run whose agent called this one's; None for a run that a person or program started."""
    agent: str
    task: str = ""
    """A preview."""
    status: str = "running"
    session: str | None = None
    started: float
    """Unix time in seconds."""
    finished: float | None = None
    usage: Mapping[str, Any] | None = None  # Any: JSON, as `Usage.to_json` makes it
    """What was spent; None while the run goes on."""
    model: str | None = None
    """The name of its model; None where nobody said it, as in what an earlier version wrote."""
    pruned: float | None = None
    """When the run's payloads were removed; set by `forget` alone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written in one transaction: all of it or nothing."""

    events: tuple[EventRow, ...] = ()
    """Of one run, in order. The first must follow the last record that the store has of the run."""
    messages: tuple[tuple[str, bytes], ...] = ()
    """(digest, canonical bytes); those that are there already are passed over."""
    run: RunRow | None = None
    anchors: tuple[bytes, ...] = ()
    """What is to be noted in the chain of all runs, in order; see `AnchorRow`."""
    after: bytes | None = None
    """The hash of the record before the first of `events`. Where the store's last record of the run has another one,
    another process wrote it, and nothing is written: a number alone would let what was sent before a failure was known
    follow the other's. None: not looked at."""


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """One record of the store's own chain, which runs over all runs in the order in which they began and ended."""

    position: int
    """From 1, without gaps."""
    body: bytes
    """Canonical JSON; the journal says what it means."""
    hash: bytes
    """SHA-256 of the hash before it (of the first: 32 zero bytes) and `body`."""


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A large value that was stored once, under its content."""

    ref: str
    """A short name that a model can copy; unique in the store."""
    sha256: str
    bytes: int
    media_type: str
    """As given by whoever stored the content first."""
    lines: int
    """Lines of text; for other content the number means little."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that a text search found."""

    key: str
    text: str
    score: float
    """Higher is better. Comparable within one answer only."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a transcript."""

    position: int
    """From 1, without gaps, in one transcript."""
    author: str
    digest: str
    """The message's name: `store.message(digest)` has its bytes."""


@dataclass(frozen=True, slots=True)
class Participant:
    """How far somebody has read in a transcript, and what they made of it."""

    name: str
    cursor: int
    """The position of the last entry that they have seen; 0: none."""
    state: bytes
    """Theirs alone: a summary, a window's state."""


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """One question to a person."""

    id: str
    run_id: str
    """The run that waits."""
    root_run_id: str
    """The run above it that a person or program started; the same, if that is the one that waits."""
    created: float
    """Unix time in seconds."""
    request: bytes
    """What is asked, as canonical JSON."""
    decision: bytes | None = None
    """What was decided, as canonical JSON; None while it waits."""
    decided: float | None = None
