"""What only PostgreSQL can do to a store: be stopped, crash, be shared by many, be another version."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.store.services import PostgresServer, folder

from wherry.errors import ConfigurationError, StoreError, StoreVersionError
from wherry.journal import EventType, Journal, verify, verify_store
from wherry.journal.export import export
from wherry.journal.retention import prune
from wherry.messages import Message
from wherry.store import Batch, EventRow, Store, open_store
from wherry.store.dialect import postgres, postgres_steps
from wherry.store.migrations import STEPS

pytestmark = pytest.mark.services


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    opened = open_store(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def mortal() -> Iterator[PostgresServer]:
    """A server of the test's own, which it may stop."""
    with folder("postgres") as place:
        server = PostgresServer(place)
        yield server
        server.stop("immediate")


def event(seq: int, run_id: str = "r", size: int = 2) -> EventRow:
    return EventRow(run_id, seq, "warning", 1.5, "a", b"x" * size, b"h" * 32)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_run_goes_on_when_the_server_was_stopped_and_started(mortal: PostgresServer, mode: str) -> None:
    async def main() -> None:
        store = open_store(mortal.url)
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="t")
        restart: threading.Thread | None = None

        def outage() -> None:
            mortal.stop(mode)
            mortal.start()

        for n in range(60):
            name = journal.keep(Message("user", f"message {n}"))
            journal.record(EventType.MODEL_REQUESTED, keep=n, add=[name])
            await journal.commit()
            if n == 20:
                restart = threading.Thread(target=outage)
                restart.start()
            store.memo.set("s", "n", n)
            assert store.memo.get("s", "n") == n
        journal.record(EventType.RUN_FINISHED, status="completed")
        await journal.commit()
        assert restart is not None
        restart.join()
        assert [row.seq for row in store.events(journal.run_id)] == list(range(1, 63))
        assert verify(store, journal.run_id) is None
        assert verify_store(store).breaks == []
        store.close()

    asyncio.run(main())


def test_what_was_reported_survives_a_crash_of_the_server(mortal: PostgresServer) -> None:
    store = open_store(mortal.url)
    reported: list[int] = []
    done = threading.Event()

    def write() -> None:
        for n in range(1, 100_000):
            store.append(Batch((event(n),))).result()
            reported.append(n)
            if done.is_set():
                return

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(3):
        before = len(reported)
        while len(reported) < before + 50:
            assert thread.is_alive()
        mortal.stop("immediate")
        mortal.start()
    done.set()
    thread.join()
    assert [row.seq for row in store.events("r")] == reported == list(range(1, len(reported) + 1))
    store.close()


def test_a_server_that_stays_away_is_named(mortal: PostgresServer) -> None:
    store = open_store(f"{mortal.url}?timeout=0.5")
    mortal.stop()
    with pytest.raises(StoreError, match="cannot be reached"):
        store.append(Batch((event(1),))).result()
    for use in (lambda: store.run("r"), lambda: store.memo.set("s", "k", 1)):
        with pytest.raises(StoreError, match="cannot be reached"):
            use()
    with pytest.raises(StoreError, match="cannot be reached") as refused:
        open_store(f"{mortal.url}?timeout=0.2")
    assert "does the server run" in (refused.value.hint or "")
    mortal.start()
    store.append(Batch((event(1),))).result()
    store.close()


def test_what_was_reported_survives_kill_9_of_the_writer(postgres_url: str) -> None:
    code = """
import sys
from wherry.store import Batch, EventRow, open_store
store = open_store(sys.argv[1])
for n in range(1, 10**9):
    store.append(Batch((EventRow("r", n, "warning", 1.5, "a", b"x" * 500, b"h" * 32),))).result()
    print(n, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code, postgres_url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 100:
                break
        os.kill(writer.pid, signal.SIGKILL)
        reported = [int(line) for line in writer.stdout]
    store = open_store(postgres_url)
    seqs = [row.seq for row in store.events("r")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= max([100, *reported])
    store.append(Batch((event(len(seqs) + 1),))).result()
    store.close()


def test_processes_share_a_store(postgres_url: str) -> None:
    """They make it at the same time, write runs of their own, and keep a rate, a transcript and a chain together."""
    code = """
import asyncio, sys
from wherry.journal import EventType, Journal
from wherry.messages import Message
from wherry.store import open_store
store = open_store(sys.argv[1])

async def main():
    for run in range(5):
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="t")
        for n in range(10):
            names = [journal.keep(Message("user", f"the same in all {n * 3 + k}")) for k in range(3)]
            journal.record(EventType.MODEL_REQUESTED, keep=0, add=names)
            await journal.commit()
        journal.record(EventType.RUN_FINISHED, status="completed")
        await journal.commit()

asyncio.run(main())
print(sum(store.rates.take("k", cost=1, rate_per_minute=0.001, burst=30) == 0.0 for _ in range(25)))
print([store.transcripts.append("t", "a", "0" * 64) for _ in range(25)])
store.close()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, postgres_url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    taken, positions = 0, list[int]()
    for process in processes:
        count, written = process.communicate(timeout=120)[0].splitlines()
        taken += int(count)
        positions += map(int, written.strip("[]").split(","))
    assert taken == 30
    assert sorted(positions) == list(range(1, 76))
    store = open_store(postgres_url)
    report = verify_store(store)
    assert (report.breaks, report.runs, report.anchors) == ([], 15, 30)
    store.close()


def test_only_one_of_two_stores_may_go_on_with_a_run(postgres_url: str) -> None:
    one, two = open_store(postgres_url), open_store(postgres_url)
    one.append(Batch((event(1),))).result()
    two.append(Batch((event(2),))).result()
    with pytest.raises(StoreError, match="another process") as caught:
        one.append(Batch((event(2),))).result()
    assert caught.value.run_id == "r"
    won: list[str] = []

    def go_on(store: Store, name: str) -> None:
        rows = (EventRow("r", 3, "warning", 1.5, name, b"{}", b"h" * 32),)
        if store.append(Batch(rows)).exception() is None:
            won.append(name)

    threads = [threading.Thread(target=go_on, args=(store, name)) for store, name in ((one, "one"), (two, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.agent for row in one.events("r", after=2)] == won
    assert len(won) == 1
    one.close()
    two.close()


def test_a_store_is_open_as_long_as_one_of_its_parts_is_in_use(postgres_url: str) -> None:
    memo = open_store(postgres_url).memo
    gc.collect()
    memo.set("s", "k", 1)
    assert memo.get("s", "k") == 1
    count = threading.active_count()
    del memo
    gc.collect()
    assert threading.active_count() < count


def test_pruning_keeps_the_proof(store: Store, postgres_url: str) -> None:
    async def make(text: str, session: str | None) -> str:
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task=text, session=session)
        names = [journal.keep(Message("user", said)) for said in (text, "the same in both")]
        journal.record(EventType.MODEL_REQUESTED, keep=0, add=names)
        store.artifacts.put(text.encode() * 100, media_type="text/plain", run_id=journal.run_id)
        journal.record(EventType.RUN_FINISHED, status="completed")
        await journal.commit()
        return journal.run_id

    old = asyncio.run(make("the old secret", "s"))
    kept = asyncio.run(make("what stays", None))
    store.save_session("s", b"{}")
    done = prune(store, session="s")
    assert (done.runs, done.kept) == ([old], [])
    assert done.bytes > 1400
    report = verify_store(store)
    assert (report.breaks, report.runs, report.pruned) == ([], 2, 1)
    assert verify(store, kept) is None
    assert store.load_session("s") is None
    assert len(list(export(store))) > 10
    with Raw(postgres_url) as raw:
        left = raw.connection.execute("SELECT body FROM messages ORDER BY body").fetchall()
        assert len(left) == 2
        assert raw.connection.execute("SELECT count(*) FROM artifact_contents").fetchall() == [(1,)]


def test_a_large_text_is_found_to_its_end(store: Store) -> None:
    words = " ".join(f"w{n}" for n in range(60_000))
    store.search.add("space", [("large", f"{words} the very end " + "x" * 5000), ("small", "nothing")])
    for query in ("w59999", "very end", "w7999 w8000", "w31", "x" * 5000):
        assert [hit.key for hit in store.search.find("space", query)] == ["large"], query
    store.search.add("space", [("large", "short now")])
    assert store.search.find("space", "w59999") == []


def test_large_artifacts_are_read_in_part(store: Store) -> None:
    data = os.urandom(3_000_000)
    kept = store.artifacts.put(data, media_type="application/octet-stream", run_id="r")
    assert store.artifacts.read(kept.ref) == data
    assert store.artifacts.read(kept.ref, 2_999_990, 100) == data[2_999_990:]
    assert store.artifacts.read(kept.ref, 5, 0) == b""


def test_a_fork_is_refused_in_the_child_and_harmless_to_the_parent(postgres_url: str) -> None:
    code = """
import os, sys, warnings
from wherry.errors import StoreError
from wherry.store import Batch, EventRow, open_store
event = lambda n: EventRow("r", n, "warning", 1.5, "a", b"{}", b"h" * 32)
store = open_store(sys.argv[1])
store.append(Batch((event(1),))).result()
warnings.simplefilter("ignore")
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
    done = subprocess.run([sys.executable, "-c", code, postgres_url], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["7", "2"], done.stderr


class Raw:
    """A connection without wherry."""

    def __init__(self, url: str) -> None:
        import psycopg

        plain, _, schema = url.partition("?schema=")
        self.connection = psycopg.connect(plain, autocommit=True, options=f"-c search_path={schema}")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def execute(self, query: str, values: Sequence[object] | None = None) -> None:
        self.connection.execute(query, values)  # pyright: ignore[reportArgumentType,reportCallIssue] - no literal


@pytest.mark.parametrize("seen", [0, 1, 6, len(STEPS) - 1, len(STEPS)])
def test_a_store_of_every_earlier_version_is_brought_forward(postgres_url: str, seen: int) -> None:
    schema = postgres_url.partition("?schema=")[2]
    with Raw(postgres_url) as raw:
        raw.execute(f"CREATE SCHEMA {schema}")
        raw.execute("CREATE TABLE wherry_version (steps BIGINT NOT NULL)")
        raw.execute("INSERT INTO wherry_version VALUES (%s)", (seen,))
        for statements in postgres_steps()[:seen]:
            for statement in statements:
                raw.execute(statement)
        if seen == 6:
            row = ("r", 1, "warning", 1.5, b"a", b"{}", b"h" * 32)
            raw.execute(
                "INSERT INTO events (run_id, seq, type, time, agent, body, hash) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                row,
            )
    store = open_store(postgres_url)
    head = 1 if seen == 6 else 0
    assert [row.seq for row in store.events("r")] == list(range(1, head + 1))
    store.append(Batch((event(head + 1),))).result()
    store.memo.set("s", "k", 1)
    assert store.artifacts.put(b"x", media_type="a/b", run_id="r").bytes == 1
    store.close()


def test_a_newer_version_is_refused_with_advice(postgres_url: str) -> None:
    open_store(postgres_url).close()
    with Raw(postgres_url) as raw:
        raw.execute("UPDATE wherry_version SET steps = steps + 1")
    with pytest.raises(StoreVersionError, match="newer wherry") as caught:
        open_store(postgres_url)
    assert "upgrade" in str(caught.value)


def test_refusals_are_named_and_passwords_are_not(postgres_server: PostgresServer, postgres_url: str) -> None:
    with Raw(postgres_url) as raw:
        raw.execute("DROP ROLE IF EXISTS guest")
        raw.execute("CREATE ROLE guest LOGIN")
    guest = postgres_url.replace("wherry@", "guest:geheim@")
    with pytest.raises(StoreError, match="refuses") as caught:
        open_store(guest)
    assert "geheim" not in str(caught.value)
    store = open_store(postgres_url)
    assert store.url == f"postgresql://127.0.0.1:{postgres_server.port}/postgres"
    store.close()
    with Raw(postgres_url) as raw:
        raw.execute("ALTER ROLE guest SET default_transaction_read_only = on")
        raw.execute(f"GRANT ALL ON SCHEMA {postgres_url.partition('?schema=')[2]} TO guest")
        raw.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {postgres_url.partition('?schema=')[2]} TO guest")
    reader = open_store(guest)
    with pytest.raises(StoreError, match="read-only"):
        reader.append(Batch((event(1),))).result()
    reader.close()
    for wrong in ("?schema=Odd-name", "?timeout=soon"):
        with pytest.raises(ConfigurationError):
            open_store(postgres_server.url + wrong)


def test_the_queries_of_sqlite_are_translated() -> None:
    assert postgres("SELECT CAST(a AS BLOB) FROM t WHERE b = ? AND c LIKE 'x%'") == (
        "SELECT CAST(a AS BYTEA) FROM t WHERE b = %s AND c LIKE 'x%%'"
    )
    assert len(postgres_steps()) == len(STEPS)


def test_the_folder_of_artifacts_may_be_elsewhere(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url, artifacts=f"file://{tmp_path}/objects")
    kept = store.artifacts.put(b"content", media_type="a/b", run_id="r")
    assert [path.read_bytes() for path in (tmp_path / "objects").rglob("*") if path.is_file()] == [b"content"]
    assert store.artifacts.reclaim("r") == kept.bytes
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    store.close()
