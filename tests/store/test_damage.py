"""Disks that are full, files that are no stores, processes that die."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.errors import StoreError, StoreVersionError
from wherry.store import Batch, EventRow, open_store
from wherry.store.migrations import STEPS, migrate, version

ROWS = """
import sys
from wherry.store import Batch, EventRow, open_store

def event(seq, run_id="r", size=2):
    return EventRow(run_id, seq, "warning", 1.5, "a", b"x" * size, b"h" * 32)
"""


def event(seq: int, run_id: str = "r", size: int = 2) -> EventRow:
    return EventRow(run_id, seq, "warning", 1.5, "a", b"x" * size, b"h" * 32)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ROWS + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("mode", ["normal", "full"])
def test_what_was_committed_survives_kill_9(tmp_path: Path, mode: str) -> None:
    url = f"sqlite:///{tmp_path}/w.db?synchronous={mode}"
    code = """
store = open_store(sys.argv[1])
for n in range(1, 10**9):
    store.append(Batch((event(n, size=500),))).result()
    print(n, flush=True)
"""
    with start(code, url) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 400:
                break
        os.kill(writer.pid, signal.SIGKILL)
        reported = [int(line) for line in writer.stdout]
    store = open_store(url)
    seqs = [row.seq for row in store.events("r")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= max([400, *reported])
    store.append(Batch((event(len(seqs) + 1),))).result()
    store.close()


def test_a_process_that_ends_without_closing_loses_nothing_and_does_not_hang(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/w.db?synchronous=full"
    code = """
store = open_store(sys.argv[1])
for n in range(1, 501):
    store.append(Batch((event(n),)))
"""
    with start(code, url) as writer:
        assert writer.wait(timeout=20) == 0
    store = open_store(url)
    assert len(list(store.events("r"))) == 500
    store.close()


def test_two_processes_append_to_one_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/w.db"
    code = """
store = open_store(sys.argv[1])
for n in range(1, 301):
    store.append(Batch((event(n, sys.argv[2]),))).result()
store.close()
"""
    writers = [start(code, url, name) for name in ("p", "q")]
    for writer in writers:
        with writer:
            assert writer.wait(timeout=30) == 0
    store = open_store(url)
    for name in ("p", "q"):
        assert [row.seq for row in store.events(name)] == list(range(1, 301))
    store.close()


def test_only_one_of_two_stores_may_go_on_with_a_run(tmp_path: Path) -> None:
    one, two = (open_store(f"sqlite:///{tmp_path}/w.db") for _ in range(2))
    one.append(Batch((event(1),))).result()
    two.append(Batch((event(2),))).result()
    with pytest.raises(StoreError, match="another process") as caught:
        one.append(Batch((event(2),))).result()
    assert caught.value.run_id == "r"
    assert len(list(one.events("r"))) == 2
    one.close()
    two.close()


def test_a_fork_is_refused_in_the_child_and_harmless_to_the_parent(tmp_path: Path) -> None:
    code = """
import os
from wherry.errors import StoreError
store = open_store(sys.argv[1])
store.append(Batch((event(1),))).result()
child = os.fork()
if child == 0:
    try:
        store.append(Batch((event(2),)))
    except StoreError as error:
        store.close()
        os._exit(7 if "fork" in str(error) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
store.append(Batch((event(2),))).result()
print(len(list(store.events("r"))))
"""
    with start(code, f"sqlite:///{tmp_path}/w.db") as process:
        assert process.communicate(timeout=20)[0].split() == ["7", "2"]


@pytest.mark.parametrize("mode", ["normal", "full"])
def test_a_full_disk_is_named_and_what_was_committed_is_intact(tmp_path: Path, mode: str) -> None:
    url = f"sqlite:///{tmp_path}/w.db?synchronous={mode}"
    code = """
import resource, signal
from wherry.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
n = 0
try:
    while True:
        store.append(Batch((event(n + 1, size=20_000),))).result()
        n += 1
except StoreError as error:
    print(n)
    print(error.hint)
try:
    store.artifacts.put(b"x" * 900_000, media_type="a/b", run_id="r")
except StoreError as error:
    print(error.message)
"""
    with start(code, url) as process:
        lines = process.communicate(timeout=20)[0].splitlines()
    assert int(lines[0]) > 5
    assert "intact" in lines[1]
    assert "artifact" in lines[2]
    store = open_store(url)
    assert len(list(store.events("r"))) == int(lines[0])
    store.append(Batch((event(int(lines[0]) + 1),))).result()
    store.close()


def test_a_full_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    open_store(f"sqlite:///{path}").close()
    code = """
import sqlite3
from wherry.errors import StoreError
connect = sqlite3.connect
def limited(*args, **kwargs):
    connection = connect(*args, **kwargs)
    connection.execute("PRAGMA max_page_count = 60")
    return connection
sqlite3.connect = limited
store = open_store(sys.argv[1])
try:
    for n in range(1, 10**6):
        store.append(Batch((event(n, size=20_000),))).result()
except StoreError as error:
    print("full" in error.message, "make room" in error.hint)
    print([row.seq for row in store.events("r")] == list(range(1, n)))
"""
    with start(code, f"sqlite:///{path}") as process:
        assert process.communicate(timeout=20)[0].split() == ["True"] * 3


def test_a_read_only_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    store = open_store(f"sqlite:///{path}")
    store.append(Batch((event(1),))).result()
    store.close()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    code = """
import os
import wherry.store.sqlite  # the interpreter may be where only root can read
from wherry.errors import StoreError
if os.geteuid() == 0:
    os.seteuid(65534)  # root may write everywhere
try:
    store = open_store(sys.argv[1])
    store.append(Batch((event(2),))).result()
except StoreError as error:
    print("permission" in str(error) or "may this user" in str(error))
os._exit(0)
"""
    for parent in tmp_path.parents[:2]:  # pytest makes its folders private to the user
        parent.chmod(0o755)
    try:
        with start(code, f"sqlite:///{path}") as process:
            assert process.communicate(timeout=20)[0].split() == ["True"]
    finally:
        tmp_path.chmod(0o755)


def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    path.write_bytes(b"this is a letter to a friend, and no database at all\n" * 100)
    with pytest.raises(StoreError, match="not an SQLite database") as caught:
        open_store(f"sqlite:///{path}")
    assert caught.value.hint is not None
    assert path.read_bytes().startswith(b"this is a letter")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"sqlite:///{path}/inside.db")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path}")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "w.db") as other:
        other.execute("CREATE TABLE runs (a)")
    other.close()
    with pytest.raises(StoreError, match="another program"):
        open_store(f"sqlite:///{tmp_path}/w.db")


def test_a_corrupted_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    store = open_store(f"sqlite:///{path}")
    store.append(Batch(tuple(event(n, size=900) for n in range(1, 500)))).result()
    store.close()
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged") as caught:
        list(open_store(f"sqlite:///{path}").events("r"))
    assert "recover" in str(caught.value)


def test_a_damaged_message_and_a_damaged_artifact_are_named(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/w.db")
    kept = store.artifacts.put(b"content", media_type="a/b", run_id="r")
    (tmp_path / "w.db.artifacts" / kept.sha256[:2] / kept.sha256[2:]).write_bytes(b"Content")
    with pytest.raises(StoreError, match="damaged"):
        store.artifacts.read(kept.ref)
    (tmp_path / "w.db.artifacts" / kept.sha256[:2] / kept.sha256[2:]).unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.artifacts.read(kept.ref)
    store.append(Batch(messages=(("00" * 32, b"message"),))).result()
    with pytest.raises(StoreError, match="damaged"):
        store.message("00" * 32)
    store.close()


def test_an_sqlite_without_full_text_search_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import wherry.store.migrations as migrations

    steps = tuple(
        (name, tuple(statement.replace("fts5(", "fts5_gone(") for statement in statements))
        for name, statements in STEPS
    )
    monkeypatch.setattr(migrations, "STEPS", steps)
    with pytest.raises(StoreError, match="no full text search"):
        open_store("memory://")


def test_a_newer_version_is_refused_with_advice(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/w.db").close()
    with sqlite3.connect(tmp_path / "w.db") as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    newer.close()
    with pytest.raises(StoreVersionError, match="newer wherry") as caught:
        open_store(f"sqlite:///{tmp_path}/w.db")
    assert "upgrade" in str(caught.value)


@pytest.mark.parametrize("seen", range(len(STEPS) + 1))
def test_a_store_of_every_earlier_version_is_brought_forward(tmp_path: Path, seen: int) -> None:
    connection = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
    migrate(connection, "test", target=seen)
    assert version(connection) == seen
    connection.close()
    store = open_store(f"sqlite:///{tmp_path}/w.db")
    store.append(Batch((event(1),))).result()
    store.memo.set("s", "k", 1)
    assert store.artifacts.put(b"x", media_type="a/b", run_id="r").bytes == 1
    store.close()


def test_what_an_earlier_version_wrote_is_there_after_the_migration(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
    migrate(connection, "test", target=6)
    for run in ("r", "q"):
        for seq in (2, 1, 3):
            values = (run, seq, "warning", 1.5, b"a", b"xx", b"h" * 32)
            connection.execute(
                "INSERT INTO events (run_id, seq, type, time, agent, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )
    connection.execute("INSERT INTO sessions VALUES (?, ?, ?)", (b"s", b"state", 1.0))
    connection.execute("INSERT INTO memo VALUES (?, ?, ?, ?)", (b"shared", b"k", b"[1]", 1.0))
    connection.execute(
        "INSERT INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?)", ("a-012345678901", b"x" * 32, 7, b"a/b", 1, "r", 1.0)
    )
    connection.close()
    store = open_store(f"sqlite:///{tmp_path}/w.db")
    for run in ("r", "q"):
        assert list(store.events(run)) == [event(n, run) for n in (1, 2, 3)]
    store.append(Batch((event(4),))).result()
    assert (store.load_session("s"), store.session_revision("s")) == (b"state", 0)
    assert store.save_session("s", b"next", expected=0) == 1
    assert store.memo.list("shared") == {"k": [1]}
    assert store.memo.delete("shared", "k")
    assert store.artifacts.info("a-012345678901").bytes == 7
    assert store.artifacts.reclaim("r") == 7
    store.close()


def test_a_full_file_system_is_named_and_what_was_committed_is_intact(tmp_path: Path) -> None:
    """A real one, of 700 kB, with another file that takes its room."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a file system")
    try:
        store = open_store(f"sqlite:///{place}/w.db")
        failures = (store.append(Batch((event(seq, size=20_000),))).exception() for seq in range(1, 100))
        n, failure = next((n, error) for n, error in enumerate(failures) if error is not None)
        assert isinstance(failure, StoreError)
        assert "intact" in (failure.hint or "")
        assert n > 3
        with pytest.raises(StoreError, match="cannot be kept"):
            store.artifacts.put(b"x" * 900_000, media_type="a/b", run_id="r")
        assert len(list(store.events("r"))) == n
        subprocess.run(["mount", "-o", "remount,size=3m", str(place)], check=True)
        store.append(Batch((event(n + 1),))).result()
        assert (
            store.artifacts.read(store.artifacts.put(b"y" * 900_000, media_type="a/b", run_id="r").ref)
            == b"y" * 900_000
        )
        store.close()
        again = open_store(f"sqlite:///{place}/w.db")
        assert len(list(again.events("r"))) == n + 1
        again.close()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
