"""Checking the large values that a run's records name: that they are there, and what they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from wherry.errors import StoreError
from wherry.journal.chain import Break
from wherry.messages import parse
from wherry.store import EventRow, Store


def broken_artifact(store: Store, run_id: str) -> Break | None:
    """The first artifact that a record names and that cannot be read as it was; reads them all."""
    seen: set[str] = set()
    for row in store.events(run_id):
        for ref in _refs(row):
            if ref in seen:
                continue
            seen.add(ref)
            try:
                store.artifacts.read(ref)  # checks the content against its digest, which the reference begins with
                if not store.artifacts.info(ref).sha256.startswith(ref.removeprefix("a-")):
                    return Break(run_id, row.seq, f"artifact {ref!r} is another than the one that was kept")
            except StoreError as error:
                return Break(run_id, row.seq, error.message)
    return None


def _refs(row: EventRow) -> Iterator[str]:
    """The artifacts that a record names; not what a model or a tool says of any."""
    if row.pruned is not None or b'"ref":"' not in row.body:
        return
    try:
        payload = parse(row.body)
    except ValueError:  # tampered with: the chain has found it
        return
    if not isinstance(payload, dict):
        return
    said = cast("dict[str, Any]", payload)  # Any: JSON
    files = said.get("files")
    named = [said, *(cast("list[Any]", files) if isinstance(files, list) else [])]
    for one in named:
        ref = cast("dict[str, Any]", one).get("ref") if isinstance(one, dict) else None
        if isinstance(ref, str):
            yield ref
