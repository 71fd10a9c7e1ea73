"""The hash chain over a run's records: any change, gap or reordering breaks it.

    hash(0) = sha256(canonical({"parent_run_id": ..., "run_id": ...}))
    hash(n) = sha256(hash(n-1) + canonical({"agent", "payload_sha256", "run_id", "seq", "time", "type"}))

`canonical` is JSON with sorted keys and no blanks, in UTF-8; `payload_sha256` is the digest of the payload's canonical
form in hexadecimal, so that a payload can be removed and the chain still be checked.

The chain proves that nothing was changed within it. Whoever can write to the store could make the whole chain anew;
what stands against that is in `anchors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import cast

from wherry.errors import StoreError
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

    __slots__ = ("head", "middle")

    def __init__(self, run_id: str, agent: str) -> None:
        self.head = b'{"agent":' + canonical(agent) + b',"payload_sha256":"'
        self.middle = '","run_id":' + canonical(run_id).decode("utf-8", "surrogatepass") + ',"seq":'

    def hash(self, before: bytes, seq: int, time: float, type_: str, payload: str) -> bytes:
        """
        Args:
            payload: Its digest, 64 hexadecimal digits.
        """
        rest = f'{payload}{self.middle}{seq},"time":{time!r},"type":"{type_}"}}'
        return sha256(before + self.head + rest.encode("utf-8", "surrogatepass")).digest()


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
        broken, naming = None, list[EventRow]()
        for row in chunk:
            _, seq, type_, time, agent, body, hash_, removed = row
            if seq != expected:
                broken = Break(run.run_id, expected, f"record {expected} is missing; the next one is {seq}")
                break
            link = links.get(agent)
            if link is None:
                link = links[agent] = Link(run.run_id, agent)
            if removed is None:
                payload = sha256(body).hexdigest()
                if type_ in _NAMING:
                    naming.append(row)
            else:
                payload, pruned = removed.hex(), True
            # As `Link.hash` does it: a call of it for each record is an eighth of the time that checking takes.
            rest = f'{payload}{link.middle}{seq},"time":{time!r},"type":"{type_}"}}'
            before = sha256(before + link.head + rest.encode("utf-8", "surrogatepass")).digest()
            if before != hash_:
                broken = Break(run.run_id, seq, f"record {seq} is not what was written after record {seq - 1}")
                if naming and naming[-1] is row:
                    naming.pop()
                break
            if seq in hashes:
                hashes[seq] = before
            last = type_
            expected += 1
        if len(checked) > REMEMBERED:
            checked.clear()
        broken = _broken_message(store, naming, checked) or broken
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
    named: list[tuple[EventRow, list[str]]] = []
    wanted: set[str] = set()
    unread: Break | None = None
    for row in rows:
        try:
            names = _quick_digests(row)
        except StoreError as error:
            unread = Break(row.run_id, row.seq, error.message)
            break
        named.append((row, names))
        wanted.update(names)
    wanted -= checked
    found = store.messages([name for name in wanted if DIGEST.fullmatch(name)]) if wanted else {}
    bad = {name for name in wanted if name not in found or sha256(found[name]).hexdigest() != name}
    checked |= wanted
    if not bad:
        return unread
    for row, names in named:
        if bad.isdisjoint(names):
            continue
        for name in message_digests(row):
            if name in bad:
                why = "is damaged: its content has another digest" if name in found else None
                reason = f"the store has no message {name}" if why is None else f"message {name} {why}"
                return Break(row.run_id, row.seq, reason)
    return unread


def message_digests(row: EventRow) -> list[str]:
    """The messages that a record names; none of one whose payload was removed.

    Raises:
        StoreError: Its payload is no JSON object.
    """
    paths = _NAMING.get(row.type)
    if paths is None or row.pruned is not None:
        return []
    try:
        payload: object = parse(row.body)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise StoreError(f"record {row.seq} of run {row.run_id!r} holds no JSON object", run_id=row.run_id)
    names = [name for path in paths for name in _at(cast("object", payload), path)]
    return [name for name in names if isinstance(name, str) and name]


def _at(payload: object, path: tuple[str, ...]) -> list[object]:
    found = payload
    for key in path:
        found = cast("dict[str, object]", found).get(key) if isinstance(found, dict) else None
    return cast("list[object]", found) if isinstance(found, list) else [found]


_NAMING: dict[str, tuple[tuple[str, ...], ...]] = {
    EventType.RUN_STARTED: (("order", "task"), ("order", "given_in")),
    EventType.MODEL_REQUESTED: (
        ("add",),
        ("told",),
        ("snapshot", "task"),
        ("snapshot", "older"),
        ("snapshot", "recent"),
        ("schemas_in",),
    ),
    EventType.MODEL_REPLIED: (("message",), ("said",)),
    EventType.TOOL_RETURNED: (("text",),),
    EventType.CODE_FINISHED: (("seen", "text"),),
    EventType.CONTEXT_COMPACTED: (("folded",),),
}
"""Where records of these types have the digests of messages."""
DIGEST = re.compile("[0-9a-f]{64}")
_MORE = (b'"told":', b'"snapshot":', b'"schemas_in":')
_SELDOM: dict[str, bytes] = {EventType.TOOL_RETURNED: b'"text":', EventType.RUN_STARTED: b'"order":{"'}
"""What a record of these types has in it, if it names a message."""
_BETWEEN = '","'
_ADDED = re.compile(rb'\{"add":\[(?:"([0-9a-f]{64}(?:","[0-9a-f]{64})*)")?\]')
_REPLIED = re.compile(rb'"message":"([0-9a-f]{64})"')


def _quick_digests(row: EventRow) -> list[str]:
    """As `message_digests`, mostly without parsing: it may name more, never less."""
    if row.type == EventType.MODEL_REQUESTED:
        added = _ADDED.match(row.body)
        if added is not None and not any(key in row.body for key in _MORE):
            return added.group(1).decode().split(_BETWEEN) if added.group(1) else []
    elif row.type == EventType.MODEL_REPLIED:
        named = _REPLIED.findall(row.body)
        if named and b'"said":' not in row.body:
            return [name.decode() for name in named]
    elif row.type in _SELDOM and _SELDOM[row.type] not in row.body:
        return []
    return message_digests(row)
