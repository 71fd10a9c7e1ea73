"""The store's parts: what the conformance suite cannot know, on SQLite."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.store import Store, memo, open_store, terms
from wherry.store.contents import FolderContents
from wherry.store.objects import ObjectContents

texts = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(["\ud83d", "\x00", "a\x00b", ""])
words = st.text(st.sampled_from("abcäß中国京タ한ก_1 \"*^:()'-\x00\ud800ﬁÅ\u0301"), max_size=30)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store("memory://")
    yield opened
    opened.close()


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(items=st.lists(st.tuples(texts, texts | words), max_size=4), query=texts | words)
def test_any_text_is_indexed_and_any_query_is_answered(store: Store, items: list[tuple[str, str]], query: str) -> None:
    store.search.add("space", items)
    last = dict(items)
    for hit in store.search.find("space", query):
        assert hit.text == last[hit.key]
    for key, value in last.items():
        if terms.terms(value):
            assert key in {hit.key for hit in store.search.find("space", value, limit=99)}, "a text finds itself"
    store.search.drop("space")
    assert store.search.find("space", query) == []


def test_a_search_in_one_space_does_not_wade_through_the_others(store: Store) -> None:
    for n in range(300):
        store.search.add(f"space {n}", [(str(m), f"common word {n}") for m in range(20)])
    assert len(store.search.find("space 7", "common", limit=99)) == 20
    assert [hit.text for hit in store.search.find("space 7", "word 8", limit=1)] == ["common word 7"]


def test_an_interrupted_add_leaves_nothing(store: Store) -> None:
    def items() -> Iterator[tuple[str, str]]:
        yield "a", "apple"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.search.add("space", items(), cursor=1)
    assert store.search.find("space", "apple") == []
    assert store.search.cursor("space") == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(name=texts, author=texts, state=st.binary())
def test_odd_names_come_back(store: Store, name: str, author: str, state: bytes) -> None:
    from wherry.store import Participant

    position = store.transcripts.append(name, author, "0" * 64)
    assert store.transcripts.read(name, after=position - 1)[0].author == author
    store.transcripts.save_participant(name, Participant(author, position, state))
    assert store.transcripts.participant(name, author) == Participant(author, position, state)
    store.cache.put(name, state)
    assert store.cache.get(name) == state


def test_time_passes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    store.memo.set("s", "k", 1, ttl=10)
    store.cache.put("k", b"v", ttl=10)
    for _ in range(5):
        assert store.rates.take("k", cost=2, rate_per_minute=60, burst=10) == 0.0
    assert store.rates.take("k", cost=2, rate_per_minute=60, burst=10) == pytest.approx(2.0)
    now[0] += 2
    assert store.rates.take("k", cost=2, rate_per_minute=60, burst=10) == 0.0
    assert store.memo.get("s", "k") == 1
    now[0] += 8
    assert store.memo.get("s", "k") is None
    assert store.memo.prune() == 1
    assert store.cache.get("k") is None
    assert store.cache.prune() == 1
    now[0] -= 100  # a clock that was set back must not make a limit stricter for ever
    assert store.rates.take("k", cost=1, rate_per_minute=60, burst=10) < 110


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(acts=st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 12)), max_size=60))
def test_a_rate_is_never_exceeded_and_never_wasted(acts: list[tuple[float, float]]) -> None:
    """Against a bucket that is filled and emptied by hand."""
    with open_and_clock() as (store, now):
        room, at = 10.0, now[0]
        for pause, cost in acts:
            now[0] += pause
            room, at = min(10.0, room + (now[0] - at) / 2), now[0]
            wait = store.rates.take("k", cost=cost, rate_per_minute=30, burst=10)
            needed = min(cost, 10.0)
            if wait == 0.0:
                assert needed <= room + 1e-5
                room -= cost
            else:
                assert needed > room - 1e-5
                assert wait == pytest.approx((needed - room) * 2, abs=1e-4)


class open_and_clock:
    def __enter__(self) -> tuple[Store, list[float]]:
        self.patch = pytest.MonkeyPatch()
        now = [1e9]
        self.patch.setattr("time.time", lambda: now[0])
        self.store = open_store("memory://")
        return self.store, now

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.patch.undo()


def test_a_memo_has_a_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "SCOPE_BYTES", 1000)
    store.memo.set("s", "a", "x" * 400)
    store.memo.set("s", "a", "y" * 900)
    with pytest.raises(ValueError, match=r"'s' is full"):
        store.memo.set("s", "b", "x" * 400)
    with pytest.raises(ValueError, match=r"'s' is full"):
        store.memo.compare_and_set("s", "b", expected=None, value="x" * 400)
    store.memo.set("t", "b", "x" * 400)
    store.memo.delete("s", "a")
    assert store.memo.compare_and_set("s", "b", expected=None, value="x" * 400)


def test_a_rate_is_kept_by_processes_together(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/w.db"
    open_store(url).close()
    code = """
import sys
from wherry.store import open_store
store = open_store(sys.argv[1])
sys.stdin.readline()
print(sum(store.rates.take("k", cost=1, rate_per_minute=0.001, burst=50) == 0.0 for _ in range(40)))
print([store.transcripts.append("t", "a", "0" * 64) for _ in range(40)])
store.close()
"""
    command = [sys.executable, "-c", code, url]
    pipes = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    taken, positions = 0, list[int]()
    for process in pipes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in pipes:
        count, written = process.communicate(timeout=60)[0].splitlines()
        taken += int(count)
        positions += map(int, written.strip("[]").split(","))
    assert taken == 50
    assert sorted(positions) == list(range(1, 121))


def test_an_artifact_that_is_put_while_it_is_reclaimed_is_whole(tmp_path: Path) -> None:
    """Two stores on one file: one puts and reads, the other reclaims, over and over."""
    import threading

    one, two = (open_store(f"sqlite:///{tmp_path}/w.db") for _ in range(2))
    done = threading.Event()

    def reclaim() -> None:
        while not done.is_set():
            two.artifacts.reclaim("r")

    thread = threading.Thread(target=reclaim)
    thread.start()
    try:
        for n in range(60):
            kept = one.artifacts.put(b"content", media_type="a/b", run_id="r")
            one.artifacts.put(b"content", media_type="a/b", run_id=f"keeper {n}")
            assert one.artifacts.read(kept.ref) == b"content"
            one.artifacts.reclaim(f"keeper {n}")
    finally:
        done.set()
        thread.join()
    two.artifacts.reclaim("r")
    assert not [path for path in (tmp_path / "w.db.artifacts").rglob("*") if path.is_file()]
    one.close()
    two.close()


def test_contents_that_belong_to_no_artifact_are_swept_up(tmp_path: Path) -> None:
    """Such as a process leaves that dies in the middle of putting or removing one."""
    for name, contents, options in (
        ("folder", FolderContents(tmp_path / "folder.db.artifacts"), {}),
        ("objects", ObjectContents(f"file://{tmp_path}/objects"), {"artifacts": f"file://{tmp_path}/objects"}),
    ):
        store = open_store(f"sqlite:///{tmp_path}/{name}.db", **options)
        kept = store.artifacts.put(b"kept", media_type="a/b", run_id="r")
        lost = sha256(b"lost content").hexdigest()
        contents.write(lost, b"lost content")
        assert store.artifacts.sweep(before=time.time() + 1) == 12
        assert store.artifacts.sweep(before=time.time() + 1) == 0
        assert store.artifacts.read(kept.ref) == b"kept"
        contents.write(lost, b"lost content")  # one that is put again is nobody's any more
        assert store.artifacts.put(b"lost content", media_type="a/b", run_id="r").sha256 == lost
        assert store.artifacts.sweep(before=time.time() + 1) == 0
        store.close()
    half = tmp_path / "folder.db.artifacts" / "ab" / ".new-half"
    half.parent.mkdir()
    half.write_bytes(b"half")
    store = open_store(f"sqlite:///{tmp_path}/folder.db")
    assert store.artifacts.sweep(before=time.time() - 60) == 0  # somebody may write on it
    assert store.artifacts.sweep(before=time.time() + 1) == 4
    assert not half.exists()
    store.close()
