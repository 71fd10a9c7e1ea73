"""The chain of all runs: what stands against a journal that was made anew, cut off or removed as a whole.

When a run begins, ends or is pruned, the store notes it in a chain of its own, in the same transaction:

    hash(0) = 32 zero bytes
    hash(n) = sha256(hash(n-1) + canonical({"hash", "kind", "parent_run_id", "records", "run_id", "time"}))

`records` and `hash` are the number of the run's records so far and the last one's hash, so that a record that is
missing at the end is found, and a run that is missing is found and named. What the chain by itself does not show is
that its own end was cut off together with the last runs: for that, keep its head elsewhere from time to time (`head`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol, cast

from wherry.errors import RunNotFound, StoreError
from wherry.journal.artifacts import broken_artifact
from wherry.journal.chain import Break, walk
from wherry.messages import canonical, parse
from wherry.store import AnchorRow, Store

FIRST = bytes(32)
PRUNED = "run.pruned"
_KEYS = {"hash", "kind", "parent_run_id", "records", "run_id", "time"}


def anchor(kind: str, time: float, run_id: str, *, parent_run_id: str | None, records: int, hash_: bytes) -> bytes:
    """What the chain of all runs notes of one of them."""
    return canonical(
        {
            "hash": hash_.hex(),
            "kind": str(kind),
            "parent_run_id": parent_run_id,
            "records": records,
            "run_id": run_id,
            "time": time,
        }
    )


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain of all runs stood at some time. Kept elsewhere, it proves later that nothing of then is gone."""

    position: int
    hash: str
    """64 hexadecimal digits."""

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """What `str(head)` gave.

        Raises:
            ValueError: `text` is no head.
        """
        position, _, digest = text.strip().partition(":")
        if not position.isdecimal() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ValueError(f"{text!r} is no head of a chain: it looks like `12:` and 64 hexadecimal digits")
        return cls(int(position), digest)


def head(store: Store) -> Head:
    """The end of the chain of all runs."""
    last = store.last_anchor()
    return Head(0, FIRST.hex()) if last is None else Head(last.position, last.hash.hex())


@dataclass(slots=True)
class Report:
    """What a check of a whole store found."""

    runs: int = 0
    records: int = 0
    anchors: int = 0
    pruned: int = 0
    """Runs whose payloads were removed by pruning."""
    breaks: list[Break] = field(default_factory=list[Break])
    """At most one a run, the first; one with the run id `""` is of the chain of all runs."""


class Told(Protocol):
    def __call__(self, run_id: str, broken: Break | None, /) -> None: ...


def verify_store(
    store: Store, *, since: Head | None = None, artifacts: bool = False, tell: Told | None = None
) -> Report:
    """Check every run that the store has or should have, and the chain of all runs.

    Args:
        since: A head that was kept elsewhere: what was there then must be there still.
        artifacts: Read the large values, too, that records name, and check them.
        tell: Called with every run that was checked, and what is wrong with it.
    """
    report = Report()
    runs = _anchored(store, report, since)
    for row in store.runs(limit=1 << 31, children=True):
        runs.setdefault(row.run_id, _Anchored())
    for run_id, anchored in sorted(runs.items()):
        broken = _check(store, run_id, anchored, report)
        if broken is None and artifacts:
            broken = broken_artifact(store, run_id)
        if broken is not None:
            report.breaks.append(broken)
        if tell is not None:
            tell(run_id, broken)
    return report


@dataclass(slots=True)
class _Anchored:
    """What the chain of all runs says of one of them."""

    parent_run_id: str | None = None
    hashes: dict[int, str] = field(default_factory=dict[int, str])
    """Number of a record -> its hash."""
    finished: bool = False
    pruned: bool = False


def _anchored(store: Store, report: Report, since: Head | None) -> dict[str, _Anchored]:
    """Check the chain of all runs; what it says of each."""
    runs: dict[str, _Anchored] = {}
    before, broken = FIRST, _Reporter(report)
    for row in store.anchors():
        report.anchors += 1
        if row.position != report.anchors:
            broken(f"anchor {report.anchors} is missing; the next one is {row.position}")
            report.anchors = row.position
        before = sha256(before + row.body).digest()
        if before != row.hash:
            broken(f"anchor {row.position} is not what was written after anchor {row.position - 1}")
            before = row.hash  # what comes after is worth a look, too
        if since is not None and row.position == since.position and row.hash.hex() != since.hash:
            broken(f"anchor {row.position} is another than the one that was kept elsewhere")
        note = noted(row)
        if note is None:
            broken(f"anchor {row.position} says nothing of a run")
            continue
        run = runs.setdefault(note["run_id"], _Anchored(note["parent_run_id"]))
        run.hashes[note["records"]] = note["hash"]
        run.finished = run.finished or note["kind"] == "run.finished"
        run.pruned = run.pruned or note["kind"] == PRUNED
    if since is not None and report.anchors < since.position:
        broken(f"anchor {report.anchors + 1} is missing: {since.position} were there when the head was kept elsewhere")
    return runs


class _Reporter:
    """Puts the first break of the chain of all runs into a report; what follows from it would only confuse."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._told = False

    def __call__(self, reason: str) -> None:
        if not self._told:
            self._report.breaks.append(Break("", 0, reason))
        self._told = True


def noted(row: AnchorRow) -> dict[str, Any] | None:  # Any: JSON
    """What a record of the chain of all runs says; None if that is nothing of a run."""
    try:
        note = parse(row.body)
    except ValueError:
        return None
    if not isinstance(note, dict) or set(cast("dict[str, Any]", note)) != _KEYS:
        return None
    return cast("dict[str, Any]", note)


def _check(store: Store, run_id: str, anchored: _Anchored, report: Report) -> Break | None:
    try:
        run = store.run(run_id)
    except RunNotFound:
        return Break(run_id, 1, "the run is missing: the chain of all runs has it, the store does not")
    report.runs += 1
    report.pruned += run.pruned is not None
    if not anchored.hashes:
        return Break(run_id, 1, "the run is not in the chain of all runs: it was put there afterwards")
    if run.finished is not None and not anchored.finished:
        return Break(run_id, max(anchored.hashes), "the run's end is not in the chain of all runs")
    if run.parent_run_id != anchored.parent_run_id:
        return Break(run_id, 1, f"the run's parent is {run.parent_run_id!r}; it was {anchored.parent_run_id!r}")
    if run.pruned is not None and not anchored.pruned:
        return Break(run_id, 0, "payloads were removed, but the chain of all runs knows of no pruning")
    hashes: dict[int, bytes | None] = dict.fromkeys(anchored.hashes)
    try:
        records, broken = walk(store, run, hashes)
    except StoreError as error:
        return Break(run_id, 0, error.message)
    if broken is not None:
        return broken
    for seq, expected in sorted(anchored.hashes.items()):
        found = hashes[seq]
        if found is None:
            missing = records + 1
            return Break(run_id, missing, f"record {missing} is missing: the run had {seq} when it was anchored")
        if found.hex() != expected:
            return Break(run_id, seq, f"record {seq} is another than the one that was anchored")
    report.records += records
    return None
