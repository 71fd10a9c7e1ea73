"""What a memo promises, on every backend that can keep one: in SQLite, in memory, in PostgreSQL, in Redis."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.store.services import RedisServer

from wherry.errors import ToolError
from wherry.store import Store, memo, open_store, redis_memo
from wherry.tools import ToolContext, use_context
from wherry.tools.builtin.memo import MemoTool

Open = Callable[[], Store]


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        "full",
        *(pytest.param(name, marks=pytest.mark.services) for name in ("postgres", "redis")),
    ]
)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same data again; in memory there is one store."""
    opened: list[Store] = []

    def again() -> Store:
        match request.param:
            case "memory":
                store = opened[0] if opened else open_store("memory://")
            case "redis":
                server: RedisServer = request.getfixturevalue("redis_server")
                store = open_store("memory://", memo=server.url)
            case "postgres":
                store = open_store(request.getfixturevalue("postgres_url"))
            case mode:
                store = open_store(f"sqlite:///{tmp_path}/w.db?synchronous={mode.replace('sqlite', 'normal')}")
        opened.append(store)
        return store

    yield again
    for store in opened:
        store.close()


@pytest.fixture
def scope() -> str:
    """A name that no other test has: servers are shared."""
    return f"scope {secrets.token_hex(6)}"


def test_notes_are_there_for_whoever_opens_the_store_next(reopen: Open, scope: str) -> None:
    first = reopen()
    first.memo.set(scope, "k", {"ö": [1, None]})
    first.memo.set(scope, "old", 1)
    assert first.memo.delete(scope, "old")
    if first.url != "memory://":
        first.close()
    second = reopen()
    assert second.memo.list(scope) == {"k": {"ö": [1, None]}}
    assert scope in second.memo.scopes()


def test_no_count_is_lost_between_agents_with_stores_of_their_own(reopen: Open, scope: str) -> None:
    """Each reads, adds one and writes; who was overtaken is told, and does it again."""
    reopen().memo.set(scope, "n", 0)
    overtaken: list[str] = []

    def count(name: str, store: Store) -> None:
        tool = MemoTool(scope=scope)

        async def main() -> None:
            with use_context(ToolContext(name, name, None, store)):
                for _ in range(15):
                    while True:
                        seen = await tool.call({"action": "get", "key": "n"})
                        try:
                            await tool.call({"action": "set", "key": "n", "value": seen + 1})
                        except ToolError as error:
                            overtaken.append(str(error))
                            continue
                        break

        asyncio.run(main())

    threads = [threading.Thread(target=count, args=(name, reopen())) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reopen().memo.get(scope, "n") == 45
    assert all("somebody else changed" in said for said in overtaken)


def test_a_new_note_is_made_by_one_of_many(reopen: Open, scope: str) -> None:
    won: list[int] = []
    stores = [reopen() for _ in range(4)]

    def make(n: int) -> None:
        if stores[n].memo.compare_and_set(scope, "leader", expected=None, value=n):
            won.append(n)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reopen().memo.get(scope, "leader")] == won


def test_a_note_is_gone_when_its_time_is_over(reopen: Open, scope: str) -> None:
    notes = reopen().memo
    notes.set(scope, "short", 1, ttl=0.05)
    assert notes.compare_and_set(scope, "also", expected=None, value=1, ttl=0.05)
    notes.set(scope, "long", 1, ttl=3600)
    notes.set(scope, "for good", 1, ttl=0.05)
    notes.set(scope, "for good", 2)
    deadline = time.monotonic() + 30
    while notes.get(scope, "short") is not None or notes.get(scope, "also") is not None:
        assert time.monotonic() < deadline
    assert notes.list(scope) == {"for good": 2, "long": 1}
    assert notes.compare_and_set(scope, "short", expected=None, value=2)
    notes.prune()
    assert notes.list(scope) == {"for good": 2, "long": 1, "short": 2}


def test_a_scope_has_a_size(reopen: Open, scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memo, redis_memo):
        monkeypatch.setattr(module, "SCOPE_BYTES", 1000)
    notes = reopen().memo
    notes.set(scope, "a", "x" * 400)
    notes.set(scope, "a", "y" * 900)
    for full in (
        lambda: notes.set(scope, "b", "x" * 400),
        lambda: notes.compare_and_set(scope, "b", expected=None, value="x" * 400),
        lambda: notes.compare_and_set(scope, "a", expected="y" * 900, value="x" * 1100),
    ):
        with pytest.raises(ValueError, match="full"):
            full()
    assert notes.list(scope) == {"a": "y" * 900}
    notes.set(f"{scope} other", "b", "x" * 400)
    notes.set(scope, "a", "z" * 900, ttl=0)
    notes.set(scope, "b", "x" * 400)  # what is over makes room
    notes.delete(scope, "b")
    notes.set(scope, "c", "x" * 900)
    assert list(notes.list(scope)) == ["c"]
