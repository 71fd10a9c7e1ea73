"""The hash chain over a run's records: any change, gap or reordering breaks it.

    hash(0) = sha256(canonical({"parent_run_id": ..., "run_id": ...}))
    hash(n) = sha256(hash(n-1) + canonical({"agent", "payload", "run_id", "seq", "time", "type"}))

`canonical` is JSON with sorted keys and no blanks, in UTF-8. The chain proves that nothing was changed within it;
whoever can write to the store could make the whole chain anew, so by itself it proves nothing against them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from wherry.errors import StoreError
from wherry.journal.events import EventType
from wherry.messages import canonical, parse
from wherry.store import EventRow, Store


def genesis(run_id: str, parent_run_id: str | None) -> bytes:
    """What the first record's hash builds on: binds the chain to its run and that run's parent."""
    return sha256(canonical({"parent_run_id": parent_run_id, "run_id": run_id})).digest()


class Link:
    """Makes the hashes of one run's records. The record's parts that do not change are encoded once.

    The canonical form is put together here, not by a JSON encoder, because its largest part, the payload, is encoded
    already; a test holds it against `canonical`.
    """

    __slots__ = ("_head", "_middle")

    def __init__(self, run_id: str, agent: str) -> None:
        self._head = b'{"agent":' + canonical(agent) + b',"payload":'
        self._middle = b',"run_id":' + canonical(run_id) + b',"seq":'

    def hash(self, before: bytes, seq: int, time: float, type_: str, body: bytes) -> bytes:
        tail = f'{seq},"time":{time!r},"type":"{type_}"}}'.encode("utf-8", "surrogatepass")
        return sha256(b"".join((before, self._head, body, self._middle, tail))).digest()


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where a run's journal is not what was written."""

    run_id: str
    seq: int
    """The sequence number of the record that is wrong or missing."""
    reason: str


def verify(store: Store, run_id: str) -> Break | None:
    """Check a run's chain and the messages that its records name; None: all is as it was written.

    Does not check the contents of artifacts. Journals of child runs are chains of their own.

    Raises:
        RunNotFound: The store has no such run.
    """
    run = store.run(run_id)
    before = genesis(run_id, run.parent_run_id)
    links: dict[str, Link] = {}
    expected = 1
    last = ""
    for row in store.events(run_id):
        if row.seq != expected:
            return Break(run_id, expected, f"record {expected} is missing; the next one is {row.seq}")
        link = links.get(row.agent)
        if link is None:
            link = links[row.agent] = Link(run_id, row.agent)
        before = link.hash(before, row.seq, row.time, row.type, row.body)
        if before != row.hash:
            return Break(run_id, row.seq, f"record {row.seq} is not what was written after record {row.seq - 1}")
        reason = _missing_message(store, row)
        if reason is not None:
            return Break(run_id, row.seq, reason)
        last = row.type
        expected += 1
    if expected == 1:
        return Break(run_id, 1, "the run has no records")
    if run.finished is not None and last != EventType.RUN_FINISHED:
        return Break(run_id, expected, f"the run is {run.status!r}, but its records end before `run.finished`")
    return None


def _missing_message(store: Store, row: EventRow) -> str | None:
    """Why a message that a record names cannot be shown, if one cannot."""
    try:
        for name in _messages(row):
            store.message(name)
    except StoreError as error:
        return error.message
    return None


def _messages(row: EventRow) -> Iterable[str]:
    if row.type == EventType.MODEL_REQUESTED:
        return parse(row.body).get("add", ())
    if row.type == EventType.MODEL_REPLIED:
        return filter(None, [parse(row.body).get("message")])
    return ()
