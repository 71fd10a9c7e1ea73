"""Every way of writing to a store, when the disk is full, the file locked or read-only; and single damaged pages."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.errors import StoreError
from wherry.journal import EventType, Journal, verify_store
from wherry.messages import Message
from wherry.store import Batch, EventRow, Participant, Store, open_store
from wherry.store.records import ApprovalRow

DIGEST = "0" * 64


def event(seq: int, size: int = 2) -> EventRow:
    return EventRow("r", seq, "warning", 1.5, "a", b"x" * size, b"h" * 32)


WRITES: dict[str, Callable[[Store, int], object]] = {
    "append": lambda store, size: store.append(Batch((event(2, size),))).result(),
    "messages": lambda store, size: store.append(Batch(messages=((DIGEST, b"x" * size),))).result(),
    "session": lambda store, size: store.save_session("s", b'"' + b"x" * size + b'"'),
    "memo": lambda store, size: store.memo.set("s", "k", "x" * size),
    "comparison": lambda store, size: store.memo.compare_and_set("s", "k", expected=1, value="x" * size),
    "artifact": lambda store, size: store.artifacts.put(b"y" * size, media_type="a/b", run_id="r"),
    "search": lambda store, size: store.search.add("s", [("k", "word " * (size // 5))], cursor=2),
    "transcript": lambda store, size: store.transcripts.append("t" + "x" * size, "a", DIGEST),
    "participant": lambda store, size: store.transcripts.save_participant("t", Participant("p", 2, b"x" * size)),
    "cache": lambda store, size: store.cache.put("k", b"x" * size),
    "approval": lambda store, size: store.approvals.put(ApprovalRow("b", "r", "r", 1.5, b'"' + b"x" * size + b'"')),
    "forget": lambda store, size: store.forget("r", anchor=b"x" * size),
}


def before(store: Store) -> None:
    """What is there when things begin to go wrong."""
    store.append(Batch((event(1),))).result()
    store.save_session("s", b'"before"')
    store.memo.set("s", "k", 1)
    store.search.add("s", [("k", "before")], cursor=1)
    store.transcripts.append("t", "a", DIGEST)
    store.transcripts.save_participant("t", Participant("p", 1, b"before"))
    store.cache.put("k", b"before")
    store.artifacts.put(b"before", media_type="a/b", run_id="r")


def assert_as_before(store: Store) -> None:
    assert list(store.events("r")) == [event(1)]
    assert (store.load_session("s"), store.session_revision("s")) == (b'"before"', 1)
    assert store.memo.list("s") == {"k": 1}
    assert ([hit.key for hit in store.search.find("s", "before")], store.search.cursor("s")) == (["k"], 1)
    assert store.transcripts.length("t") == 1
    assert store.transcripts.participant("t", "p") == Participant("p", 1, b"before")
    assert store.cache.get("k") == b"before"
    assert store.approvals.get("b") is None
    assert store.last_anchor() is None
    assert store.artifacts.sweep(before=0.0) == 0
    with pytest.raises(StoreError, match="no message"):
        store.message(DIGEST)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["normal", "full"])
@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_waits_too_long_for_a_lock_changes_nothing(tmp_path: Path, name: str, mode: str) -> None:
    store = open_store(f"sqlite:///{tmp_path}/w.db?timeout=0.05&synchronous={mode}")
    before(store)
    other = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        WRITES[name](store, 10)
    assert "fuser" in (caught.value.hint or "")
    assert_as_before_but_content(store)
    other.execute("ROLLBACK")
    other.close()
    WRITES[name](store, 10)
    store.close()


def assert_as_before_but_content(store: Store) -> None:
    """Reading works while another process writes; sweeping up, which writes, does not."""
    assert list(store.events("r")) == [event(1)]
    assert store.load_session("s") == b'"before"'
    assert store.memo.list("s") == {"k": 1}
    assert [hit.key for hit in store.search.find("s", "before")] == ["k"]
    assert store.transcripts.length("t") == 1
    assert store.cache.get("k") == b"before"


FULL = """
import resource, signal, sys
from tests.store.test_damage_parts import WRITES, before, assert_as_before
from wherry.errors import StoreError
from wherry.store import open_store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(sys.argv[1])
before(store)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for name, write in WRITES.items():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # less than every file of the store has already
    try:
        write(store, 500_000)
    except StoreError as error:
        print(name, "intact" in error.hint or "disk" in error.hint)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert_as_before(store)
store.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["normal", "full"])
def test_a_write_for_which_there_is_no_room_changes_nothing(tmp_path: Path, mode: str) -> None:
    command = [sys.executable, "-c", FULL, f"sqlite:///{tmp_path}/w.db?synchronous={mode}"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told == dict.fromkeys(WRITES, "True")
    store = open_store(f"sqlite:///{tmp_path}/w.db")
    assert_as_before(store)
    for write in WRITES.values():
        write(store, 500_000)
    store.close()


def test_a_damaged_page_is_named_and_hides_no_more_than_it_holds(tmp_path: Path) -> None:
    """One page after another is overwritten: what can be read is what was written, and all else is an error by name."""
    path = tmp_path / "w.db"
    store = open_store(f"sqlite:///{path}")
    runs = [asyncio.run(make_run(store, n)) for n in range(4)]
    store.close()
    whole = path.read_bytes()
    store = open_store(f"sqlite:///{path}")
    expected = {run_id: list(store.events(run_id)) for run_id in runs}
    store.close()
    dice = random.Random(1)
    pages = len(whole) // 4096
    told: list[StoreError] = []
    read = 0
    for page in [1, *dice.sample(range(2, pages), 25)]:
        for side in path.parent.glob("w.db-*"):
            side.unlink()
        damaged = bytearray(whole)
        start = page * 4096
        damaged[start : start + 4096] = dice.randbytes(4096)
        path.write_bytes(damaged)
        try:
            store = open_store(f"sqlite:///{path}")
        except StoreError as error:
            told.append(error)
            continue
        for run_id in runs:
            try:
                assert list(store.events(run_id)) == expected[run_id]
                read += 1
            except StoreError as error:
                told.append(error)
        try:
            report = verify_store(store)
            assert all(broken.reason for broken in report.breaks)
        except StoreError as error:
            told.append(error)
        store.close()
    assert told
    assert all("damaged" in str(error) or "not an SQLite database" in str(error) for error in told)
    assert read > len(runs) * 10
    shutil.rmtree(path.with_name("w.db.artifacts"), ignore_errors=True)


async def make_run(store: Store, n: int) -> str:
    journal = Journal.start(store, agent="a")
    journal.record(EventType.RUN_STARTED, task=f"task {n}")
    for k in range(12):
        name = journal.keep(Message("user", f"{n} {k} " + "words " * 200))
        journal.record(EventType.MODEL_REQUESTED, keep=k, add=[name])
        journal.record(EventType.WARNING, message="long " * 300)
        await journal.commit()
    journal.record(EventType.RUN_FINISHED, status="completed")
    await journal.commit()
    return journal.run_id
