"""What can be searched of a run: its task, what its messages say, results, large values, its answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

from wherry.errors import StoreError
from wherry.journal.chain import message_digests
from wherry.journal.events import EventType
from wherry.messages import Message, canonical, parse
from wherry.store import EventRow, Store

CHUNK = 100
"""Records whose messages are in memory at once."""
PIECE_CHARS, OVERLAP_CHARS = 4000, 200
"""A text is indexed in pieces: what is found is shown by a piece, and is in memory with others."""
REMEMBERED = 10_000
"""Messages and large values that are known to be indexed already; more only take longer."""
ARTIFACT_BYTES = 1 << 20
"""Of a large value the rest is not searched."""
_RESULTS = (EventType.TOOL_RETURNED, EventType.CODE_FINISHED, EventType.AGENT_RETURNED)


class Piece(NamedTuple):
    """A piece of a text of a run."""

    key: str
    """Sorts anywhere, begins with the run's id and a blank; the same when it is made again."""
    text: str


class Place(NamedTuple):
    """Where a piece is from."""

    run_id: str
    seq: int
    """The record's number."""
    kind: str
    """`task`, `answer`, `result`, `artifact`, or the role of a message."""


def place_of(key: str) -> Place:
    run_id, seq, kind, *_ = key.split(" ")
    return Place(run_id, int(seq), kind)


def pieces(store: Store, run_id: str, *, after: int = 0) -> Iterator[Piece]:
    """The texts of a run's records behind a number, in pieces; nothing of what was pruned. In bounded memory.

    Messages of the system are left out: they are the same in run after run, and say nothing of what happened in one.
    """
    rows = store.events(run_id, after=after)
    tail: list[Piece] = []
    """Results since the last request: the next one has them as messages, if there is a next one."""
    seen: set[str] = set()
    """A reply is named again by the request behind it, a large value by all who name it."""
    while chunk := [row for row in islice(rows, CHUNK) if row.pruned is None]:
        named = {row.seq: _digests(row) for row in chunk}
        found = store.messages({name for names in named.values() for name in names})
        for row in chunk:
            if row.type == EventType.MODEL_REQUESTED:
                tail.clear()
            for name in named[row.seq]:
                if name in found and name not in seen:
                    seen.add(name)
                    yield from _of_message(row, name, found[name])
            if row.type in _RESULTS:
                tail += _of_result(row)
            yield from _of_record(store, row, seen)
            if len(seen) > REMEMBERED:
                seen.clear()
    yield from tail


def _of_message(row: EventRow, digest: str, body: bytes) -> Iterator[Piece]:
    try:
        message = Message.decode(body)
    except ValueError:  # damaged: `verify` finds it
        return
    if message.role == "system":
        return
    calls = [f"{call.name} {_text(call.arguments)}" for call in message.tool_calls]
    yield from _cut(row, f"{message.role} {digest[:16]}", "\n".join(filter(None, (message.content, *calls))))


def _of_result(row: EventRow) -> Iterator[Piece]:
    payload = _payload(row)
    texts = (payload.get(key) for key in ("preview", "stdout", "stderr", "value", "error"))
    yield from _cut(row, "result", "\n".join(text for text in texts if isinstance(text, str) and text))


def _of_record(store: Store, row: EventRow, seen: set[str]) -> Iterator[Piece]:
    """What a record says itself, and what the large value that it names says."""
    if row.type == EventType.RUN_STARTED:
        yield from _cut(row, "task", str(_payload(row).get("task") or ""))
    elif row.type == EventType.RUN_FINISHED:
        output = _payload(row).get("output")
        if output is not None:
            yield from _cut(row, "answer", output if isinstance(output, str) else _text(output))
    if b'"ref":"' in row.body:
        ref = _payload(row).get("ref")
        if isinstance(ref, str) and ref not in seen:
            seen.add(ref)
            kind = "answer" if row.type == EventType.RUN_FINISHED else "artifact"
            yield from _cut(row, f"{kind} {ref}", _artifact(store, ref))


def _artifact(store: Store, ref: str) -> str:
    """The text of an artifact; empty for one that is gone, or is no text."""
    try:
        kind = store.artifacts.info(ref).media_type
        if not kind.startswith("text/") and not kind.endswith(("json", "xml", "yaml")):
            return ""
        return store.artifacts.read(ref, 0, ARTIFACT_BYTES).decode("utf-8", "replace")
    except StoreError:
        return ""


def _cut(row: EventRow, kind: str, text: str) -> Iterator[Piece]:
    for number, start in enumerate(range(0, len(text), PIECE_CHARS - OVERLAP_CHARS)):
        if number == 0 or start + OVERLAP_CHARS < len(text):
            yield Piece(f"{row.run_id} {row.seq} {kind} {number}", text[start : start + PIECE_CHARS])


def _digests(row: EventRow) -> list[str]:
    if row.type == EventType.CONTEXT_COMPACTED:  # it names what earlier records named
        return []
    try:
        return [name for name in message_digests(row) if len(name) == 64 and not set(name) - set("0123456789abcdef")]
    except StoreError:  # tampered with: `verify` finds it
        return []


def _payload(row: EventRow) -> dict[str, Any]:  # Any: JSON
    try:
        payload = parse(row.body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}


def _text(value: Any) -> str:  # Any: JSON
    return canonical(value).decode("utf-8", "surrogatepass")
