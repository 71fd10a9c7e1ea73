"""The hash chain over a run's records: any change, gap or reordering breaks it.

    hash(0) = sha256(canonical({"parent_run_id": ..., "run_id": ...}))
    hash(n) = sha256(hash(n-1) + canonical({"agent", "payload_sha256", "run_id", "seq", "time", "type"}))

`canonical` is JSON with sorted keys and no blanks, in UTF-8; `payload_sha256` is the digest of the payload's canonical
form in hexadecimal, so that a payload can be removed and the chain still be checked.

The chain proves that nothing was changed within it. Whoever can write to the store could make the whole chain anew;
what stands against that is in `anchors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

from wherry.journal.events import EventType
from wherry.messages import canonical, parse
from wherry.store import EventRow, RunRow, Store

CHUNK = 500
"""Records whose messages are looked up at once."""
REMEMBERED = 100_000
"""Messages of a run that are remembered as checked."""


def genesis(run_id: str, parent_run_id: str | None) -> bytes:
    """What the first record's hash builds on: binds the chain to its run and that run's parent."""
    return sha256(canonical({"parent_run_id": parent_run_id, "run_id": run_id})).digest()


class Link:
    """Makes the hashes of one run's records. The record's parts that do not change are encoded once.

    The canonical form is put together here, not by a JSON encoder: that takes a third of the time. A test holds it
    against `canonical`.
    """

    __slots__ = ("_head", "_middle")

    def __init__(self, run_id: str, agent: str) -> None:
        self._head = b'{"agent":' + canonical(agent) + b',"payload_sha256":"'
        self._middle = b'","run_id":' + canonical(run_id) + b',"seq":'

    def hash(self, before: bytes, seq: int, time: float, type_: str, payload: str) -> bytes:
        """
        Args:
            payload: Its digest, 64 hexadecimal digits.
        """
        record = b'%b%b%b%b%d,"time":%b,"type":"%b"}' % (
            before,
            self._head,
            payload.encode(),
            self._middle,
            seq,
            repr(time).encode(),
            type_.encode("utf-8", "surrogatepass"),
        )
        return sha256(record).digest()


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where a journal is not what was written."""

    run_id: str
    seq: int
    """The sequence number of the record that is wrong or missing; 0: the run as a whole."""
    reason: str


def verify(store: Store, run_id: str) -> Break | None:
    """Check a run's chain and the messages that its records name; None: all is as it was written.

    Does not check the contents of artifacts, nor that the whole chain was not made anew: see `verify_store`. Journals
    of child runs are chains of their own.

    Raises:
        RunNotFound: The store has no such run.
    """
    return walk(store, store.run(run_id), {})[1]


def walk(store: Store, run: RunRow, hashes: dict[int, bytes | None]) -> tuple[int, Break | None]:
    """Check a run's chain: how many records it has, and where it is broken.

    Args:
        hashes: Filled in: the hashes of the records whose numbers are its keys.
    """
    before = genesis(run.run_id, run.parent_run_id)
    links: dict[str, Link] = {}
    checked: set[str] = set()
    rows = store.events(run.run_id)
    expected, last, pruned = 1, "", False
    while chunk := list(islice(rows, CHUNK)):
        good, broken = 0, None
        for _, seq, type_, time, agent, body, hash_, removed in chunk:
            if seq != expected:
                broken = Break(run.run_id, expected, f"record {expected} is missing; the next one is {seq}")
                break
            link = links.get(agent)
            if link is None:
                link = links[agent] = Link(run.run_id, agent)
            payload = sha256(body).hexdigest() if removed is None else removed.hex()
            before = link.hash(before, seq, time, type_, payload)
            if before != hash_:
                broken = Break(run.run_id, seq, f"record {seq} is not what was written after record {seq - 1}")
                break
            if removed is not None:
                pruned = True
            if seq in hashes:
                hashes[seq] = before
            last = type_
            good += 1
            expected += 1
        if len(checked) > REMEMBERED:
            checked.clear()
        broken = _broken_message(store, chunk[:good], checked) or broken
        if broken is not None:
            return expected - 1, broken
    return expected - 1, _broken_end(run, expected, last, pruned=pruned)


def _broken_end(run: RunRow, expected: int, last: str, *, pruned: bool) -> Break | None:
    if expected == 1:
        return Break(run.run_id, 1, "the run has no records")
    if run.finished is not None and last != EventType.RUN_FINISHED:
        return Break(run.run_id, expected, f"the run is {run.status!r}, but its records end before `run.finished`")
    if pruned and run.pruned is None:
        return Break(run.run_id, 0, "payloads were removed, but not by pruning")
    return None


def _broken_message(store: Store, rows: Iterable[EventRow], checked: set[str]) -> Break | None:
    """The first message that records name and that cannot be shown, if there is one."""
    named = [(row, name) for row in rows for name in message_digests(row) if name not in checked]
    wanted = dict.fromkeys(name for _, name in named if _is_digest(name))
    found = store.messages(wanted) if wanted else {}
    for row, name in named:
        body = found.get(name)
        if body is None:
            return Break(row.run_id, row.seq, f"the store has no message {name}")
        if sha256(body).hexdigest() != name:
            return Break(row.run_id, row.seq, f"message {name} is damaged: its content has another digest")
    checked.update(wanted)
    return None


def message_digests(row: EventRow) -> Iterator[str]:
    """The messages that a record names; none of one whose payload was removed."""
    if row.pruned is not None:
        return
    if row.type == EventType.MODEL_REQUESTED:
        yield from parse(row.body).get("add", ())
    elif row.type == EventType.MODEL_REPLIED:
        name = parse(row.body).get("message")
        if name:
            yield name


def _is_digest(name: str) -> bool:
    return len(name) == 64 and name.isascii() and name.isalnum() and not set(name) - set("0123456789abcdef")
