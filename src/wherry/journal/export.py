"""A journal as JSON Lines that a reader can check without wherry: `docs/audit.md` has a script that does.

Every line is an object with one key, which says what it is:

    {"export": {...}}   the first: format, version, when
    {"run": {...}}      a run's row
    {"message": {...}}  `digest`, and `body`, the very text that the digest is of; before the first record naming it
    {"record": {...}}   a run's record; `payload` is its canonical text, or null and `payload_sha256` if it was pruned
    {"anchor": {...}}   a record of the chain of all runs
    {"end": {...}}      how many lines there were, their SHA-256, and the signature over it if there is a key

All is ASCII: what is not stands as `\\uXXXX`, lone surrogates too. Texts are encoded by UTF-8 (surrogates as if they
were characters) before they are hashed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from wherry.errors import StoreError
from wherry.journal.chain import DIGEST, message_digests
from wherry.journal.signing import ALGORITHM, SigningKey
from wherry.store import EventRow, RunRow, Store

FORMAT = "wherry audit export"
VERSION = 1
CHUNK = 200
"""Records whose messages are looked up at once."""


def export(store: Store, *, run_ids: Collection[str] | None = None, key: SigningKey | None = None) -> Iterator[bytes]:
    """The lines of an export, each with its line break; the memory that it takes does not grow with the store's texts.

    What is broken is exported as it is: finding that is the reader's part.

    Args:
        run_ids: The runs; None: all. The chain of all runs is there whole in any case.
        key: Signs the end.

    Raises:
        RunNotFound: The store has no such run.
        StoreError: It cannot be read.
    """
    summary, count = sha256(), 0
    for line in _lines(store, run_ids):
        summary.update(line)
        count += 1
        yield line
    end: dict[str, Any] = {"lines": count, "sha256": summary.hexdigest()}
    if key is not None:
        end |= {"algorithm": ALGORITHM, "public_key": key.public, "signature": key.sign(summary.digest()).hex()}
    yield _line("end", end)


def _lines(store: Store, run_ids: Collection[str] | None) -> Iterator[bytes]:
    yield _line("export", {"format": FORMAT, "version": VERSION, "time": time.time()})
    sent: set[str] = set()
    rows = store.runs(limit=1 << 31, children=True) if run_ids is None else [store.run(name) for name in run_ids]
    for run in sorted(rows, key=lambda row: (row.started, row.run_id)):
        yield from _run(store, run, sent)
    for row in store.anchors():
        yield _line("anchor", {"position": row.position, "body": _text(row.body), "hash": row.hash.hex()})


def _run(store: Store, run: RunRow, sent: set[str]) -> Iterator[bytes]:
    yield _line("run", asdict(run))
    chunk: list[EventRow] = []
    for row in store.events(run.run_id):
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield from _records(store, chunk, sent)
            chunk.clear()
    yield from _records(store, chunk, sent)


def _records(store: Store, rows: list[EventRow], sent: set[str]) -> Iterator[bytes]:
    named = dict.fromkeys(name for row in rows for name in _digests(row) if name not in sent)
    found = store.messages(named)
    for name in named:
        if name in found:
            yield _line("message", {"digest": name, "body": _text(found[name])})
    sent.update(named)
    for row in rows:
        record: dict[str, Any] = {
            "run_id": row.run_id,
            "seq": row.seq,
            "type": row.type,
            "time": row.time,
            "agent": row.agent,
            "payload": _text(row.body) if row.pruned is None else None,
            "hash": row.hash.hex(),
        }
        if row.pruned is not None:
            record["payload_sha256"] = row.pruned.hex()
        yield _line("record", record)


def _digests(row: EventRow) -> list[str]:
    try:
        return [name for name in message_digests(row) if DIGEST.fullmatch(name)]
    except StoreError:  # tampered with
        return []


def _line(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({kind: value}, separators=(",", ":")).encode("ascii") + b"\n"


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # tampered with: what comes out has another digest, and is found
        return data.decode("utf-8", "replace")
