"""What every store does, on a file and in memory."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.errors import ConfigurationError, RunNotFound, StoreError
from wherry.store import Batch, EventRow, RunRow, Store, open_store

texts = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(["\ud83d", "\x00", "a\x00b", ""])


@pytest.fixture(params=["file", "full", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    urls = {
        "file": f"sqlite:///{tmp_path}/w.db",
        "full": f"sqlite:///{tmp_path}/w.db?synchronous=full",
        "memory": "memory://",
    }
    opened = open_store(urls[request.param])
    yield opened
    opened.close()


def event(seq: int, run_id: str = "r", *, agent: str = "a", body: bytes = b"{}") -> EventRow:
    return EventRow(run_id, seq, "warning", 1.5, agent, body, b"h" * 32)


def message(text: bytes) -> tuple[str, bytes]:
    return hashlib.sha256(text).hexdigest(), text


def test_a_batch_comes_back_as_it_was_given(store: Store) -> None:
    rows = tuple(event(n, body=b'{"n":%d}' % n) for n in range(1, 1201))
    run = RunRow("r", agent="a", task="t", session="s", started=1.0, usage={"requests": 1})
    store.append(Batch(rows, (message(b"one"), message(b"two")), run)).result()
    assert tuple(store.events("r")) == rows
    assert tuple(store.events("r", after=1199)) == rows[-1:]
    assert list(store.events("other")) == []
    assert store.message(message(b"two")[0]) == b"two"
    assert store.run("r") == run


def test_a_message_is_stored_once_and_a_missing_one_is_an_error(store: Store) -> None:
    for _ in range(2):
        store.append(Batch(messages=(message(b"one"), message(b"one")))).result()
    assert store.message(message(b"one")[0]) == b"one"
    for missing in ("0" * 64, "no digest"):
        with pytest.raises(StoreError, match=missing):
            store.message(missing)


def test_a_batch_that_does_not_follow_is_refused_whole(store: Store) -> None:
    store.append(Batch((event(1), event(2)))).result()
    for wrong in (2, 4):
        with pytest.raises(StoreError, match=f"record {wrong}"):
            store.append(Batch((event(wrong),), (message(b"lost %d" % wrong),))).result()
        with pytest.raises(StoreError):
            store.message(message(b"lost %d" % wrong)[0])
    with pytest.raises(StoreError, match="gap"):
        store.append(Batch((event(3), event(5)))).result()
    store.append(Batch((event(3),))).result()
    assert [row.seq for row in store.events("r")] == [1, 2, 3]


def test_threads_append_to_runs_of_their_own_without_losing_any(store: Store) -> None:
    def write(name: str) -> None:
        futures = [store.append(Batch((event(n, name),))) for n in range(1, 101)]
        for future in futures:
            future.result()

    threads = [threading.Thread(target=write, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert [row.seq for row in store.events(f"r{n}")] == list(range(1, 101))


def test_runs_are_listed_newest_first_and_by_session(store: Store) -> None:
    for n, (parent, session) in enumerate([(None, "s"), (None, None), ("r0", "s"), (None, "s")]):
        row = RunRow(f"r{n}", parent_run_id=parent, agent="a", session=session, started=float(n))
        store.append(Batch(run=row)).result()
    assert [r.run_id for r in store.runs()] == ["r3", "r1", "r0"]
    assert [r.run_id for r in store.runs(children=True, limit=2)] == ["r3", "r2"]
    assert [r.run_id for r in store.runs(session="s")] == ["r3", "r0"]
    store.append(Batch(run=RunRow("r0", agent="a", status="completed", started=0.0, finished=9.0))).result()
    assert store.run("r0").finished == 9.0
    with pytest.raises(RunNotFound, match="nobody"):
        store.run("nobody")


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(scope=texts, key=texts, value=texts, state=st.binary())
def test_odd_texts_come_back(store: Store, scope: str, key: str, value: str, state: bytes) -> None:
    store.memo.set(scope, key, {"v": [value]})
    assert store.memo.get(scope, key) == {"v": [value]}
    assert store.memo.list(scope)[key] == {"v": [value]}
    assert store.memo.delete(scope, key)
    assert not store.memo.delete(scope, key)
    assert store.memo.get(scope, key) is None
    store.save_session(key, state)
    assert store.load_session(key) == state
    run = RunRow("odd", agent=scope, task=value, session=key, started=1.0)
    store.append(Batch(run=run)).result()
    assert store.run("odd") == run


def test_a_memo_takes_json_only(store: Store) -> None:
    with pytest.raises(TypeError):
        store.memo.set("s", "k", object())  # pyright: ignore[reportArgumentType]
    store.memo.set("s", "b", 1)
    store.memo.set("s", "a", 2)
    store.memo.set("s", "b", 3)
    assert list(store.memo.list("s").items()) == [("a", 2), ("b", 3)]
    assert store.load_session("none") is None


def test_an_artifact_is_stored_once_under_its_content(store: Store) -> None:
    first = store.artifacts.put(b"one\ntwo", media_type="text/plain", run_id="r")
    again = store.artifacts.put(b"one\ntwo", media_type="text/html", run_id="q")
    assert again == first
    assert (first.bytes, first.lines, first.media_type) == (7, 2, "text/plain")
    assert first.sha256 == hashlib.sha256(b"one\ntwo").hexdigest()
    assert store.artifacts.info(first.ref) == first
    assert store.artifacts.read(first.ref) == b"one\ntwo"
    assert store.artifacts.read(first.ref, 2, 3) == b"e\nt"
    assert store.artifacts.read(first.ref, 99) == b""
    assert store.artifacts.put(b"", media_type="a/b", run_id="r").lines == 0
    for missing in ("a-000000000000", "\ud800"):
        with pytest.raises(StoreError, match="no artifact"):
            store.artifacts.read(missing)
    with pytest.raises(ValueError, match="negative"):
        store.artifacts.read(first.ref, -1)


def test_a_closed_store_has_written_everything_and_refuses_all_use(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/w.db?synchronous=full"
    store = open_store(url)
    futures = [store.append(Batch((event(n),))) for n in range(1, 301)]
    store.close()
    store.close()
    assert all(future.result() is None for future in futures)
    for use in (lambda: store.append(Batch()), lambda: store.run("r"), lambda: store.memo.set("s", "k", 1)):
        with pytest.raises(StoreError, match="closed"):
            use()
    again = open_store(url)
    assert len(list(again.events("r"))) == 300
    again.close()
    assert not (tmp_path / "w.db-wal").exists()


def test_reading_goes_on_while_another_store_holds_the_lock(tmp_path: Path) -> None:
    import sqlite3

    url = f"sqlite:///{tmp_path}/w.db?timeout=0.2"
    store = open_store(url)
    store.append(Batch((event(1),))).result()
    other = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert [row.seq for row in store.events("r")] == [1]
    future = store.append(Batch((event(2),)))
    with pytest.raises(StoreError, match="locked"):
        future.result()
    waiting = store.append(Batch((event(2),)))  # goes to the writer thread, which waits for the lock
    other.execute("ROLLBACK")
    waiting.result()
    other.close()
    assert [row.seq for row in store.events("r")] == [1, 2]
    store.close()


@pytest.mark.parametrize("url", ["", "w.db", "sqlite://w.db", "sqlite:///", "mysql:///w.db", "memory://x"])
def test_what_names_no_store_is_refused_with_the_forms_that_do(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///"):
        open_store(url) if url else open_store("://")


def test_no_error_shows_a_password() -> None:
    with pytest.raises(ConfigurationError, match=r"mysql://me:\.\.\.@host/db") as refused:
        open_store("mysql://me:geheim@host/db")
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("option", ["synchronous=off", "timeout=soon", "mode=ro"])
def test_unknown_options_are_refused(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=option):
        open_store(f"sqlite:///{tmp_path}/w.db?{option}")


@pytest.mark.parametrize("url", [None, "sqlite:///~/w.db"])
def test_a_user_without_a_home_is_told_what_to_set(url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)  # a container that runs under an arbitrary user id
    for name in ("HOME", "XDG_DATA_HOME", "WHERRY_STORE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="no home folder") as refused:
        open_store(url)
    assert "WHERRY_STORE" in (refused.value.hint or "")


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHERRY_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    open_store().close()
    path = tmp_path / "data" / "wherry" / "wherry.db"
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("WHERRY_STORE", f"sqlite:///{tmp_path}/other.db")
    open_store().close()
    assert (tmp_path / "other.db").exists()


@pytest.mark.slow
def test_a_store_is_open_as_long_as_one_of_its_parts_is_in_use(tmp_path: Path) -> None:
    memo = open_store(f"sqlite:///{tmp_path}/w.db").memo
    gc.collect()
    memo.set("s", "k", 1)
    assert (tmp_path / "w.db-wal").exists()
    del memo
    gc.collect()
    assert not (tmp_path / "w.db-wal").exists()
