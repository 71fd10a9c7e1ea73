"""A process that writes everything that a store keeps, and can be killed anywhere: what it did is gone on with.

    python -m tests.store.workload URL [MEMO]

It prints what it was told to be durable, a line each, as it is told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from wherry.errors import RunNotFound, StoreConflict, StoreError
from wherry.journal import EventType, Journal, RunJournal, read_events, verify_store
from wherry.journal.retention import prune
from wherry.messages import Message
from wherry.store import ApprovalRow, Store, open_store

STEPS = 5
LARGE = "large " * 14_000  # a batch is just small enough to be written at once, and all of them make a checkpoint
Tell = Callable[..., None]


def silent(*facts: object) -> None:
    return


def work(store: Store, tell: Tell = silent) -> None:
    """Do what is not done yet."""
    asyncio.run(_run(store, "kept", "mail", tell))
    asyncio.run(_run(store, "old", "gone", tell))
    _parts(store, tell)
    if store.run("old").pruned is None:
        store.search.add("recall/session/gone", [("said", "the old words")])
        store.memo.set("run:old", "note", "old")
    prune(store, session="gone")
    tell("pruned", "old")


async def _run(store: Store, run_id: str, session: str, tell: Tell) -> None:
    try:
        if store.run(run_id).finished is not None:
            return
        journal = Journal.go_on(store, run_id)
    except RunNotFound:
        journal = Journal.start(store, agent="a", run_id=run_id)
    types = [event.type for event in read_events(store, run_id)] if store.last_event(run_id) else []
    if not types:
        journal.record(EventType.RUN_STARTED, task=f"task {run_id}", session=session)
        await _commit(journal, 1, tell)
    for step in range(types.count(EventType.CONTEXT_OFFLOADED), STEPS):
        text = f"{run_id} {step} {LARGE}"
        kept = store.artifacts.put(text.encode(), media_type="text/plain", run_id=run_id)
        tell("artifact", run_id, kept.ref)
        names = [journal.keep(Message("user", f"{run_id} {step} {n} {LARGE}")) for n in range(3)]
        journal.record(EventType.MODEL_REQUESTED, keep=0, add=names)
        journal.record(EventType.CONTEXT_OFFLOADED, ref=kept.ref)
        await _commit(journal, 2 * step + 3, tell)
    journal.record(EventType.RUN_FINISHED, status="completed", usage={"requests": STEPS})
    await _commit(journal, 2 * STEPS + 2, tell)


async def _commit(journal: RunJournal, seq: int, tell: Tell) -> None:
    await journal.commit()
    tell("record", journal.run_id, seq)


def _parts(store: Store, tell: Tell) -> None:
    memo = store.memo
    while (seen := memo.get("shared", "n") or 0) != STEPS:
        assert isinstance(seen, int)
        if memo.compare_and_set("shared", "n", expected=seen or None, value=seen + 1):
            tell("memo", "n", seen + 1)
    memo.set("shared", "gone", "soon")
    memo.delete("shared", "gone")
    for expected in range(store.session_revision("mail"), 2):
        store.save_session("mail", f'{{"n":{expected}}}'.encode(), expected=expected)
        tell("session", expected + 1)
    digest = "0" * 64
    for position in range(store.transcripts.length("talk") + 1, STEPS + 1):
        try:
            store.transcripts.append("talk", "a", digest, expected=position)
        except StoreConflict as conflict:
            raise AssertionError("nobody else writes here") from conflict
        tell("transcript", position)
    for cursor in range(store.search.cursor("notes") + 1, STEPS + 1):
        store.search.add("notes", [(f"note {cursor}", f"word{cursor} and all")], cursor=cursor)
        tell("search", cursor)
    store.cache.put("k", b"v")
    for number in range(len(store.approvals.find(run_id="kept")) + 1, STEPS + 1):
        store.approvals.put(ApprovalRow(f"ap-{number}", "kept", "kept", float(number), b"{}"))
        tell("asked", f"ap-{number}")
    for row in store.approvals.find(run_id="kept", pending=True):
        if store.approvals.decide(row.id, b'{"approved":true}', 9.0):
            tell("decided", row.id)
    for number in range(int(store.changes.read("agent").get("n", b"0")) + 1, STEPS + 1):
        store.changes.write("agent", {"n": b"%d" % number, f"before {number}": b"x", f"before {number - 1}": None})
        tell("versions", number)


def state(store: Store) -> dict[str, Any]:
    """All that must be the same in the end, however often the process was killed. Fails if something is not whole."""
    report = verify_store(store)
    assert report.breaks == []
    runs = {row.run_id: row for row in store.runs(limit=99)}
    for run_id, row in runs.items():
        if row.pruned is None:
            for event in read_events(store, run_id):
                if event.type is EventType.CONTEXT_OFFLOADED and (row.finished is None or run_id == "kept"):
                    assert run_id.encode() in store.artifacts.read(event.payload["ref"])
    return {
        "runs": {name: (row.status, row.session, row.task, row.pruned is not None) for name, row in runs.items()},
        "records": {name: [(row.seq, row.type) for row in store.events(name)] for name in runs},
        "anchors": sum(1 for _ in store.anchors()),
        "memo": {scope: store.memo.list(scope) for scope in ("shared", "run:old")},
        "session": (store.load_session("mail"), store.session_revision("mail")),
        "transcript": [entry.position for entry in store.transcripts.read("talk")],
        "search": [hit.key for hit in store.search.find("notes", "all")],
        "gone": [hit.key for hit in store.search.find("recall/session/gone", "words")],
        "cursor": store.search.cursor("notes"),
        "approvals": [(row.id, row.decision) for row in store.approvals.find(run_id="kept")],
        "versions": store.changes.read("agent"),
    }


def check_told(store: Store, told: list[list[Any]]) -> None:
    """What the process was told to be durable is there."""
    for kind, *facts in told:
        if kind == "record":
            last = store.last_event(facts[0])
            assert last is not None
            assert last.seq >= facts[1]
        elif kind == "artifact" and (facts[0] == "kept" or store.run("old").finished is None):
            assert facts[0].encode() in store.artifacts.read(facts[1])
        elif kind == "memo":
            seen = store.memo.get("shared", facts[0])
            assert isinstance(seen, int)
            assert seen >= facts[1]
        elif kind == "session":
            assert store.session_revision("mail") >= facts[0]
        elif kind == "transcript":
            assert store.transcripts.length("talk") >= facts[0]
        elif kind == "search":
            assert store.search.cursor("notes") >= facts[0]
            assert [hit.key for hit in store.search.find("notes", f"word{facts[0]}")] == [f"note {facts[0]}"]
        elif kind in ("asked", "decided"):
            row = store.approvals.get(facts[0])
            assert row is not None
            assert row.decision is not None or kind == "asked"
        elif kind == "versions":
            assert int(store.changes.read("agent")["n"]) >= facts[0]
        elif kind == "pruned":
            try:
                list(read_events(store, facts[0]))
            except StoreError:
                continue
            raise AssertionError("what was pruned can be read")


def _print(*facts: object) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    opened = open_store(sys.argv[1], memo=sys.argv[2] if len(sys.argv) > 2 else None)
    work(opened, _print)
    opened.close()
