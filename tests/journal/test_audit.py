"""What was done to a store behind its back is found, and what was exported can be checked by others."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from wherry import redaction
from wherry.errors import ConfigurationError, RunNotFound, StoreError
from wherry.journal import Break, EventType, Head, Journal, RunJournal, head, read_events, verify, verify_store
from wherry.journal.chain import Link, genesis
from wherry.journal.export import export
from wherry.journal.retention import prune
from wherry.journal.signing import SigningKey, signed_by
from wherry.messages import Message, digest
from wherry.store import Store, open_store

RECORDS = 9
SCRIPT = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{path}")
    yield opened
    opened.close()


def commit(journal: RunJournal) -> None:
    asyncio.run(journal.commit())


def make_run(
    store: Store, *, text: str = "", session: str | None = None, parent: RunJournal | None = None, end: bool = True
) -> RunJournal:
    journal = Journal.start(store, agent="agent ö", parent=parent)
    journal.record(EventType.RUN_STARTED, task=f"task {text}", session=session)
    shared = journal.keep(Message("system", "You are all the same."))
    own = journal.keep(Message("user", f"{text} of {journal.run_id} \ud800"))
    journal.record(EventType.MODEL_REQUESTED, keep=0, add=[shared, own])
    reply = journal.keep(Message("assistant", f"reply to {text} of {journal.run_id}"))
    journal.record(EventType.MODEL_REPLIED, message=reply)
    for n in range(RECORDS - 5):
        journal.record(EventType.TOOL_CALLED, call=str(n), arguments={"text": f"{text} \ud800 ö"})
    journal.record(EventType.CONTEXT_COMPACTED, folded=[own])
    if end:
        journal.record(EventType.RUN_FINISHED, status="completed", output=text)
    commit(journal)
    return journal


Tampering = Callable[[sqlite3.Connection, random.Random, str, int], int | None]
"""Does something to a run's records in a database, and says at which it must be found; None: anywhere in the run."""
EVENT = "SELECT id, type, time, agent, body, hash FROM events WHERE id = ?"


def flip(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    seq = dice.randint(1, RECORDS)
    column = dice.choice(["type", "agent", "body", "hash", "time"])
    (value,) = db.execute(f"SELECT {column} FROM events WHERE id = ?", (base | seq,)).fetchone()
    if column == "time":
        changed: object = value + dice.choice([-1, 1]) * 2**-20
    else:
        data = bytearray(value.encode() if isinstance(value, str) else value)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(7)
        changed = bytes(data)
    db.execute(f"UPDATE events SET {column} = ? WHERE id = ?", (changed, base | seq))
    return seq


def drop(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    seq = dice.randint(1, RECORDS)
    db.execute("DELETE FROM events WHERE id = ?", (base | seq,))
    if dice.random() < 0.5:  # and close the gap
        for after in range(seq + 1, RECORDS + 1):
            db.execute("UPDATE events SET id = ? WHERE id = ?", (base | after - 1, base | after))
    return seq


def swap(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    one, two = sorted(dice.sample(range(1, RECORDS + 1), 2))
    db.execute("UPDATE events SET id = -1 WHERE id = ?", (base | one,))
    db.execute("UPDATE events SET id = ? WHERE id = ?", (base | one, base | two))
    db.execute("UPDATE events SET id = ? WHERE id = -1", (base | two,))
    return one


def truncate(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    seq = dice.randint(1, RECORDS)
    db.execute("DELETE FROM events WHERE id >= ? AND id < ?", (base | seq, base + (1 << 32)))
    if dice.random() < 0.5:  # and let it look as if the run had died there
        db.execute("UPDATE runs SET finished = NULL, status = 'running' WHERE run_id = ?", (run_id,))
    return seq


def insert(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    seq = dice.randint(1, RECORDS)
    row = db.execute(EVENT, (base | dice.randint(1, RECORDS),)).fetchone()
    for after in range(RECORDS, seq - 1, -1):
        db.execute("UPDATE events SET id = ? WHERE id = ?", (base | after + 1, base | after))
    query = "INSERT INTO events (id, type, time, agent, body, hash) VALUES (?, ?, ?, ?, ?, ?)"
    db.execute(query, (base | seq, *row[1:]))
    (mine, former) = (db.execute(EVENT, (base | n,)).fetchone() for n in (seq, seq + 1))
    return seq + 1 if mine[1:] == former[1:] else seq  # a copy before its original is only found after it


def message(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    name, seq = dice.choice([("user", 2), ("assistant", 3)])
    what = "DELETE FROM messages" if dice.random() < 0.5 else "UPDATE messages SET body = CAST(body || ' ' AS BLOB)"
    assert db.execute(f"{what} WHERE instr(body, ?) AND instr(body, ?)", (run_id, name)).rowcount == 1
    return seq


def remove(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> int:
    db.execute("DELETE FROM events WHERE id > ? AND id < ?", (base, base + (1 << 32)))
    db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    db.execute("DELETE FROM journals WHERE run_id = ?", (run_id,))
    return 1


def make_anew(db: sqlite3.Connection, dice: random.Random, run_id: str, base: int) -> None:
    """Change something and hash everything again, as somebody would who knows how."""
    flip(db, dice, run_id, base)
    before = genesis(run_id, None)
    for seq in range(1, RECORDS + 1):
        _, type_, when, agent, body, _ = db.execute(EVENT, (base | seq,)).fetchone()
        type_, agent = (text if isinstance(text, str) else text.decode("utf-8", "replace") for text in (type_, agent))
        before = Link(run_id, agent).hash(before, seq, when, type_, digest(body))
        row = (before, type_, agent.encode(), base | seq)
        db.execute("UPDATE events SET hash = ?, type = ?, agent = ? WHERE id = ?", row)


TAMPERINGS: tuple[Tampering, ...] = (flip, drop, swap, truncate, insert, message, remove, make_anew)
TABLES = ("events", "messages", "runs", "journals", "anchors")


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_tampering_is_found_at_the_right_record(store: Store, path: Path, times: int) -> None:
    runs = [make_run(store, text=f"run {n}").run_id for n in range(3)]
    assert verify_store(store).breaks == []
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    whole = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    dice = random.Random(times)
    changed = 0
    while changed < times:
        act, run_id = dice.choice(TAMPERINGS), dice.choice(runs)
        (number,) = db.execute("SELECT id FROM journals WHERE run_id = ?", (run_id,)).fetchone()
        db.execute("BEGIN")
        seq = act(db, dice, run_id, number << 32)
        db.execute("COMMIT")
        touched = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES} != whole
        found = verify_store(store).breaks
        if touched:
            changed += 1
            assert [broken.run_id for broken in found] == [run_id], act
            assert seq is None or found[0].seq == seq, (act, found)
        else:
            assert found == []
        db.execute("BEGIN")
        for table, rows in whole.items():
            if db.execute(f"SELECT * FROM {table}").fetchall() != rows:
                db.execute(f"DELETE FROM {table}")
                db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        db.execute("COMMIT")
    db.close()
    assert verify_store(store).breaks == []


@pytest.mark.parametrize(
    ("statement", "reason"),
    {
        "UPDATE anchors SET body = CAST(replace(body, '1', '2') AS BLOB) WHERE position = 3": "not what was written",
        "UPDATE anchors SET hash = zeroblob(32) WHERE position = 3": "not what was written",
        "UPDATE anchors SET body = 'x', hash = 'y' WHERE position = 3": "not what was written",
        "DELETE FROM anchors WHERE position = 3": "anchor 3 is missing",
    }.items(),
)
def test_tampering_with_the_chain_of_all_runs_is_found(store: Store, path: Path, statement: str, reason: str) -> None:
    for n in range(3):
        make_run(store, text=str(n))
    with sqlite3.connect(path) as db:
        assert db.execute(statement).rowcount == 1
    db.close()
    first = verify_store(store).breaks[0]
    assert first.run_id == ""
    assert reason in first.reason


def test_what_was_put_there_afterwards_is_found(store: Store, path: Path) -> None:
    run_id = make_run(store).run_id
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM anchors")
    db.close()
    assert verify_store(store).breaks == [
        Break(run_id, 1, "the run is not in the chain of all runs: it was put there afterwards")
    ]


def test_a_head_that_was_kept_elsewhere_finds_what_was_cut_off_without_a_trace(store: Store, path: Path) -> None:
    assert head(store) == Head(0, "00" * 32)
    make_run(store)
    last = make_run(store).run_id
    kept = Head.parse(str(head(store)))
    assert kept.position == 4
    assert verify_store(store, since=kept).breaks == []
    with sqlite3.connect(path) as db:
        (number,) = db.execute("SELECT id FROM journals WHERE run_id = ?", (last,)).fetchone()
        remove(db, random.Random(), last, number << 32)
        db.execute("DELETE FROM anchors WHERE position > 2")
    db.close()
    assert verify_store(store).breaks == []
    (broken,) = verify_store(store, since=kept).breaks
    assert broken.reason.startswith("anchor 3 is missing")
    make_run(store)
    (broken,) = verify_store(store, since=kept).breaks
    assert broken.reason.startswith("anchor 4 is another")
    for text in ("", "4", "x:y", f"4:{'g' * 64}"):
        with pytest.raises(ValueError, match="no head"):
            Head.parse(text)


def test_a_run_that_goes_on_is_no_break(store: Store) -> None:
    told: list[str] = []
    journal = make_run(store, end=False)
    report = verify_store(store, tell=lambda run_id, broken: told.append(run_id))
    assert (report.breaks, report.runs, report.records, report.anchors) == ([], 1, RECORDS - 1, 1)
    assert told == [journal.run_id]
    child = make_run(store, parent=journal)
    journal.record(EventType.RUN_FINISHED, status="limit")
    commit(journal)
    assert verify_store(store).breaks == []
    journal.record(EventType.WARNING, message="went on")  # as a run does that is resumed
    journal.record(EventType.RUN_FINISHED, status="completed")
    commit(journal)
    report = verify_store(store)
    assert (report.breaks, report.runs) == ([], 2)
    assert verify(store, child.run_id) is None


def exported(store: Store, path: Path, **options: object) -> Path:
    target = path.with_name("export.jsonl")
    target.write_bytes(b"".join(export(store, **options)))  # pyright: ignore[reportArgumentType]
    return target


def check(file: Path) -> subprocess.CompletedProcess[str]:
    """Run the script of the documentation."""
    return subprocess.run([sys.executable, "-I", "-c", script(), str(file)], capture_output=True, text=True, timeout=60)


def script() -> str:
    (found,) = re.findall(r"(?ms)^```py\n(.*?)^```", SCRIPT.read_text("utf-8"))
    return found


@pytest.mark.slow
def test_an_export_is_checked_by_the_script_of_the_documentation(store: Store, path: Path) -> None:
    parent = make_run(store, text="one")
    make_run(store, text="two", parent=parent)
    gone = make_run(store, text="three", session="s").run_id
    prune(store, session="s")
    file = exported(store, path)
    done = check(file)
    assert done.returncode == 0, done.stderr
    lines = file.read_bytes().splitlines(keepends=True)
    assert f"{len(lines)} lines: nothing was changed" in done.stdout
    assert [json.loads(line)["run"]["session"] for line in lines if b'"run":' in line] == [None, None, "s"]
    assert b"three" not in file.read_bytes()
    assert gone.encode() in file.read_bytes()
    dice = random.Random(2)
    for n in range(60):
        tampered = list(lines)
        place = dice.randrange(1, len(lines))
        match n % 4:
            case 0:
                data = bytearray(lines[place])
                spot = dice.choice([m.start() for m in re.finditer(rb"[0-9a-f]", lines[place])])
                data[spot] = data[spot] + 1 if data[spot] not in b"9f" else data[spot] - 1
                tampered[place] = bytes(data)
            case 1:
                del tampered[place]
            case 2:
                tampered.insert(place, tampered[place])
            case _:
                del tampered[place:]
        file.write_bytes(b"".join(tampered))
        done = check(file)
        assert (done.returncode, done.stderr[:5]) == (1, "line "), (n, lines[place])


def test_an_export_is_signed(store: Store, path: Path) -> None:
    make_run(store)
    key = SigningKey.create(path.with_name("key.pem"))
    assert path.with_name("key.pem").stat().st_mode & 0o777 == 0o600
    key = SigningKey.load(path.with_name("key.pem"))
    lines = exported(store, path, key=key).read_bytes().splitlines(keepends=True)
    end = json.loads(lines[-1])
    end |= json.loads(end["body"])
    summary = sha256(b"".join(lines[:-1]))
    assert (end["lines"], end["sha256"], end["public_key"]) == (len(lines) - 1, summary.hexdigest(), key.public)
    assert signed_by(key.public, summary.digest(), bytes.fromhex(end["signature"]))
    assert not signed_by(key.public, b"another" + summary.digest(), bytes.fromhex(end["signature"]))
    other = SigningKey.create(path.with_name("other.pem"))
    assert not signed_by(other.public, summary.digest(), bytes.fromhex(end["signature"]))
    with pytest.raises(ConfigurationError, match="cannot be made"):
        SigningKey.create(path.with_name("key.pem"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        SigningKey.load(path.with_name("none.pem"))
    path.with_name("text.pem").write_text("no key")
    with pytest.raises(ConfigurationError, match="no private key"):
        SigningKey.load(path.with_name("text.pem"))
    with pytest.raises(ConfigurationError, match="no public key"):
        signed_by("00", b"", b"")


def test_one_run_is_exported_alone(store: Store, path: Path) -> None:
    wanted, _ = make_run(store).run_id, make_run(store)
    lines = [json.loads(line) for line in exported(store, path, run_ids=[wanted]).read_bytes().splitlines()]
    assert [line["run"]["run_id"] for line in lines if "run" in line] == [wanted]
    assert check(path.with_name("export.jsonl")).returncode == 0
    with pytest.raises(RunNotFound):
        list(export(store, run_ids=["none"]))


def test_pruning_removes_what_was_said_and_keeps_the_proof(store: Store, path: Path) -> None:
    old = make_run(store, text="the old secret", session="s")
    child = make_run(store, text="the child's secret", parent=old)
    live = make_run(store, text="live", end=False)
    kept = store.artifacts.put(b"old artifact", media_type="text/plain", run_id=old.run_id)
    shared = store.artifacts.put(b"shared artifact", media_type="text/plain", run_id=old.run_id)
    store.artifacts.link(shared.ref, live.run_id)
    store.save_session("s", b"state")
    store.memo.set("session:s", "k", 1)
    store.memo.set("shared", "k", 2)
    store.search.add("recall/session/s", [("k", "the old secret")])
    with pytest.raises(ValueError, match="remove everything"):
        prune(store)
    assert prune(store, before=0.0).runs == []
    planned = prune(store, session="s", dry_run=True)
    assert sorted(planned.runs) == sorted([old.run_id, child.run_id])
    assert len(list(read_events(store, old.run_id))) == RECORDS
    with sqlite3.connect(path) as db:
        db.execute("UPDATE messages SET saved = saved - 10")  # what is kept while others run is left alone
    db.close()
    done = prune(store, session="s")
    assert sorted(done.runs) == sorted([old.run_id, child.run_id])
    assert (done.kept, prune(store, session="s").runs) == ([], [])
    assert done.bytes > 500
    report = verify_store(store)
    assert (report.breaks, report.pruned) == ([], 2)
    assert verify(store, old.run_id) is None
    with pytest.raises(StoreError, match="pruning"):
        list(read_events(store, old.run_id))
    assert (store.run(old.run_id).task, store.load_session("s"), store.memo.list("session:s")) == ("", None, {})
    assert store.memo.get("shared", "k") == 2
    with pytest.raises(StoreError, match="no artifact"):
        store.artifacts.info(kept.ref)
    assert store.artifacts.read(shared.ref) == b"shared artifact"
    assert verify(store, live.run_id) is None
    live.record(EventType.RUN_FINISHED, status="completed")
    commit(live)
    store.close()
    for file in path.parent.rglob("w.db*"):
        if file.is_file():
            assert b"secret" not in file.read_bytes(), file


def test_a_run_that_was_tampered_with_is_not_pruned(store: Store, path: Path) -> None:
    good, bad = make_run(store), make_run(store)
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE events SET time = 0 WHERE id = (SELECT id << 32 | 4 FROM journals WHERE run_id = ?)", (bad.run_id,)
        )
    db.close()
    done = prune(store, before=1e12)
    assert done.runs == [good.run_id]
    assert [(broken.run_id, broken.seq) for broken in done.kept] == [(bad.run_id, 4)]


@pytest.mark.parametrize("how", ["UPDATE runs SET pruned = 1", "SELECT 1"])
def test_payloads_that_were_removed_by_hand_are_found(store: Store, path: Path, how: str) -> None:
    run_id = make_run(store).run_id
    with sqlite3.connect(path) as db:
        for number, body in db.execute("SELECT id, body FROM events").fetchall():
            db.execute("UPDATE events SET body = x'', pruned = ? WHERE id = ?", (sha256(body).digest(), number))
        db.execute(how)
    db.close()
    (broken,) = verify_store(store).breaks
    assert (broken.run_id, "removed" in broken.reason) == (run_id, True)


class Owner:
    """Holds a secret."""


def test_secrets_never_reach_the_store(store: Store, path: Path) -> None:
    owner = Owner()
    redaction.hold('my "quoted" password', owner)
    told: list[object] = []
    journal = Journal.start(store, agent="a", subscribers=[lambda event: told.append(event.payload)])
    journal.record(EventType.RUN_STARTED, task='say my "quoted" password')
    journal.record(EventType.TOOL_RETURNED, preview="key sk-proj-abcdefghijklmnop1234567890 and more")
    name = journal.keep(Message("user", 'it is my "quoted" password, AKIAIOSFODNN7EXAMPLE'))
    journal.record(EventType.MODEL_REQUESTED, keep=0, add=[name])
    commit(journal)
    assert verify(store, journal.run_id) is None
    assert "password" not in repr(told)
    kept = Message.decode(store.message(name)).content
    assert kept.startswith("it is …")
    assert kept.endswith("MPLE")
    store.memo.set("s", "k", 'my "quoted" password')
    store.save_session("s", json.dumps(['my "quoted" password']).encode())
    store.search.add("s", [("k", 'my "quoted" password')])
    store.artifacts.put(b'my "quoted" password', media_type="text/plain", run_id="r")
    store.close()
    for file in path.parent.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"quoted" not in data, file
            assert b"abcdefghijklmnop" not in data
            assert b"IOSFODNN7" not in data


def test_a_changed_artifact_is_found_at_the_record_that_names_it(store: Store, path: Path) -> None:
    journal = make_run(store, end=False)
    for n, kind in enumerate(("text/plain", "image/png")):
        kept = store.artifacts.put(b"large %d" % n, media_type=kind, run_id=journal.run_id)
        payload = {"files": [{"ref": kept.ref}]} if n else {"ref": kept.ref, "arguments": {"ref": "a-000000000000"}}
        journal.record(EventType.TOOL_RETURNED, **payload)
    journal.record(EventType.RUN_FINISHED, status="completed", ref=None)
    commit(journal)
    assert verify_store(store, artifacts=True).breaks == []
    for n, seq in ((1, RECORDS + 1), (0, RECORDS)):
        name = sha256(b"large %d" % n).hexdigest()
        file = path.with_name("w.db.artifacts") / name[:2] / name[2:]
        file.write_bytes(b"Large %d" % n)
        (broken,) = verify_store(store, artifacts=True).breaks
        assert (broken.run_id, broken.seq, "damaged" in broken.reason) == (journal.run_id, seq, True)
    file.unlink()
    assert "cannot be read" in verify_store(store, artifacts=True).breaks[0].reason
    with sqlite3.connect(path) as db:  # another content under the same reference
        kept = store.artifacts.put(b"another", media_type="text/plain", run_id=journal.run_id)
        db.execute("DELETE FROM artifacts WHERE ref = ?", (kept.ref,))
        query = "UPDATE artifacts SET sha256 = ? WHERE sha256 = ?"
        db.execute(query, (bytes.fromhex(kept.sha256), sha256(b"large 0").digest()))
    db.close()
    assert "is another" in verify_store(store, artifacts=True).breaks[0].reason
    assert verify_store(store).breaks == []
