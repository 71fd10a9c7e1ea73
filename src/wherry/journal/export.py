"""A journal as JSON Lines that a reader can check without wherry: `docs/audit.md` has a script that does.

Every line is an object with these keys, which are all that is needed to prove it:

    body    the very text that was hashed
    hash    SHA-256 of the hash before it in its chain, and the body
    chain   which chain that is: a run's id, "" for the chain of all runs, null for the export's own

The lines, in their order:

    null       the first: format, version, when
    a run      the start of its chain; `run` is its row in the store, for reading
    no chain   a message, before the first record that names it by its hash
    a record   `payload` is the text whose digest the body has, or null if it was pruned
    ""         the chain of all runs, behind 32 zero bytes, as far as it was when the export began
    null       the last: the SHA-256 of all lines before; the signature over it, if there is a key

All is ASCII: what is not stands as `\\uXXXX`, lone surrogates too. Texts are encoded by UTF-8 (surrogates as if they
were characters) before they are hashed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from hashlib import sha256
from itertools import chain
from typing import Any

from wherry.errors import StoreError
from wherry.journal.anchors import head
from wherry.journal.chain import DIGEST, message_digests
from wherry.journal.signing import ALGORITHM, SigningKey
from wherry.messages import canonical
from wherry.store import EventRow, RunRow, Store

FORMAT = "wherry audit export"
VERSION = 2
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
    first = _text(canonical({"format": FORMAT, "time": time.time(), "version": VERSION}))
    hash_ = sha256(_bytes(first))
    summary, count = sha256(), 0
    for line in chain([_line(hash_.digest(), first, chain=None)], _lines(store, run_ids)):
        summary.update(line)
        count += 1
        yield line
    last = _text(canonical({"lines": count, "sha256": summary.hexdigest()}))
    hash_ = sha256(hash_.digest() + _bytes(last))
    signed: dict[str, Any] = {}
    if key is not None:
        signed = {"algorithm": ALGORITHM, "public_key": key.public, "signature": key.sign(summary.digest()).hex()}
    yield _line(hash_.digest(), last, chain=None, **signed)


def _lines(store: Store, run_ids: Collection[str] | None) -> Iterator[bytes]:
    sent: set[str] = set()
    noted = head(store).position  # what is noted while this goes on may be of records that are not here
    rows = store.runs(limit=1 << 31, children=True) if run_ids is None else [store.run(name) for name in run_ids]
    for run in sorted(rows, key=lambda row: (row.started, row.run_id)):
        yield from _run(store, run, sent)
    for row in store.anchors():
        if row.position <= noted:
            yield _line(row.hash, _text(row.body), chain="")


def _run(store: Store, run: RunRow, sent: set[str]) -> Iterator[bytes]:
    begin = canonical({"parent_run_id": run.parent_run_id, "run_id": run.run_id})
    yield _line(sha256(begin).digest(), _text(begin), chain=run.run_id, run=asdict(run))
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
            yield _line(bytes.fromhex(name), _text(found[name]))
    sent.update(named)
    for row in rows:
        hashed: dict[str, Any] = {
            "agent": row.agent,
            "payload_sha256": (row.pruned or sha256(row.body).digest()).hex(),
            "run_id": row.run_id,
            "seq": row.seq,
            "time": row.time,
            "type": row.type,
        }
        payload = _text(row.body) if row.pruned is None else None
        yield _line(row.hash, _text(canonical(hashed)), chain=row.run_id, payload=payload)


def _digests(row: EventRow) -> list[str]:
    try:
        return [name for name in message_digests(row) if DIGEST.fullmatch(name)]
    except StoreError:  # tampered with
        return []


def _line(hash_: bytes, body: str, **more: object) -> bytes:
    line = {"body": body, "hash": hash_.hex(), **more}
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # tampered with: what comes out has another digest, and is found
        return data.decode("utf-8", "replace")
