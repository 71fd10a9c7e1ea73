"""The memo as agents have it: scopes, time, and what happens when two write at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.store.services import RedisServer

from wherry.errors import ToolError
from wherry.store import Store, memo, open_store
from wherry.tools import ToolContext, use_context
from wherry.tools.builtin.memo import MemoTool


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store("memory://")
    yield opened
    opened.close()


def call(
    tool: MemoTool, store: Store, *values: Any, run: str = "r", agent: str = "a", session: str | None = "s"
) -> Any:
    arguments: dict[str, Any] = {}
    arguments.update(zip(("action", "key", "value"), values, strict=False))

    async def main() -> Any:
        with use_context(ToolContext(run, agent, session, store)):
            return await tool.call(arguments)

    return asyncio.run(main())


def test_who_shares_the_notes(store: Store) -> None:
    for scope, sees in {
        "run": [("r", "a", "s")],
        "session": [("r", "a", "s"), ("q", "b", "s")],
        "agent": [("r", "a", "s"), ("q", "a", "t")],
        "shared": [("r", "a", "s"), ("q", "b", "t")],
        "mine": [("r", "a", "s"), ("q", "b", None)],
    }.items():
        tool = MemoTool(scope=scope)
        call(tool, store, "set", "k", scope)
        for run in ("r", "q"):
            for agent in ("a", "b"):
                for session in ("s", "t"):
                    seen = call(tool, store, "list", run=run, agent=agent, session=session)
                    mine = {"run": run == "r", "session": session == "s", "agent": agent == "a"}.get(scope, True)
                    assert seen == ({"k": scope} if mine else {}), (scope, sees)
    with pytest.raises(ToolError, match="has none"):
        call(MemoTool(scope="session"), store, "list", session=None)


def test_what_somebody_else_changed_is_not_replaced_silently(store: Store) -> None:
    tool = MemoTool()
    assert call(tool, store, "set", "k", {"n": 1}, run="one") == "noted 'k'"
    assert call(tool, store, "get", "k", run="two") == {"n": 1}
    assert call(tool, store, "set", "k", {"n": 2}, run="one") == "noted 'k'"
    with pytest.raises(ToolError, match=r"somebody else changed 'k'.*\{\"n\":2\}"):
        call(tool, store, "set", "k", {"n": 3}, run="two")
    assert call(tool, store, "set", "k", {"n": 3}, run="two") == "noted 'k'"  # it knows now
    assert call(tool, store, "set", "k", 4, run="three") == "noted 'k', in place of {\"n\":3}"
    with pytest.raises(ToolError, match="somebody else changed"):
        call(tool, store, "delete", "k", run="one")
    assert call(tool, store, "delete", "k", run="one") == "deleted 'k'"
    with pytest.raises(ToolError, match="it is gone"):
        call(tool, store, "set", "k", 5, run="three")
    assert call(tool, store, "set", "k", 5, run="three") == "noted 'k'"
    with pytest.raises(ToolError, match="has no 'none'"):
        call(tool, store, "get", "none", run="one")
    call(tool, store, "set", "none", 1, run="two")
    with pytest.raises(ToolError, match="somebody else changed"):  # it saw that there was none
        call(tool, store, "set", "none", 2, run="one")


def test_no_count_is_lost_between_two_that_count(store: Store) -> None:
    tool = MemoTool()
    store.memo.set("shared", "n", 0)

    def count(run: str) -> None:
        for _ in range(25):
            while True:
                seen = call(tool, store, "get", "n", run=run)
                try:
                    call(tool, store, "set", "n", seen + 1, run=run)
                except ToolError:
                    continue
                break

    threads = [threading.Thread(target=count, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.memo.get("shared", "n") == 50


def test_notes_end_and_have_a_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    short = MemoTool(ttl=10, name="scratchpad")
    assert short.schema.name == "scratchpad"
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    call(short, store, "set", "k", 1)
    now[0] += 9
    assert call(short, store, "get", "k") == 1
    now[0] += 2
    with pytest.raises(ToolError, match="no notes yet"):
        call(short, store, "get", "k")
    with pytest.raises(ToolError, match="1,048,576 bytes"):
        call(short, store, "set", "k", "x" * 2_000_000)
    monkeypatch.setattr(memo, "SCOPE_BYTES", 1000)
    with pytest.raises(ToolError, match="full"):
        call(short, store, "set", "k", "x" * 2000)


def test_the_tool_remembers_a_bounded_number_of_notes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[MemoTool.__module__], "REMEMBERED", 3)
    tool = MemoTool()
    for n in range(10):
        call(tool, store, "set", f"k{n}", n)
    assert len(tool._seen[store]) == 3  # pyright: ignore[reportPrivateUsage]


@pytest.mark.services
def test_a_memo_in_redis_is_shared_and_survives_a_restart(redis_server: RedisServer) -> None:
    one, two = (open_store("memory://", memo=redis_server.url) for _ in range(2))
    name = f"scope {id(one)}"
    one.memo.set(name, "n", 0)

    def count(store: Store) -> None:
        for _ in range(50):
            while True:
                seen = store.memo.get(name, "n")
                assert isinstance(seen, int)
                if store.memo.compare_and_set(name, "n", expected=seen, value=seen + 1):
                    break

    threads = [threading.Thread(target=count, args=(store,)) for store in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    redis_server.stop()
    redis_server.start()
    assert one.memo.get(name, "n") == 100
    one.close()
    two.close()


@pytest.mark.services
def test_a_memo_in_redis_has_a_size_and_an_address(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from wherry.errors import ConfigurationError, StoreError
    from wherry.store import redis_memo

    store = open_store("memory://", memo=redis_server.url)
    monkeypatch.setattr(redis_memo, "SCOPE_BYTES", 1000)
    name = f"scope {id(store)}"
    store.memo.set(name, "a", "x" * 400)
    store.memo.set(name, "a", "y" * 900)
    with pytest.raises(ValueError, match="full"):
        store.memo.set(name, "b", "x" * 400)
    store.memo.delete(name, "a")
    store.memo.set(name, "b", "x" * 400)
    store.close()
    with pytest.raises(ConfigurationError, match="redis://"):
        open_store("memory://", memo="http://x")
    gone = open_store("memory://", memo="redis://127.0.0.1:1/0")
    with pytest.raises(StoreError, match="cannot be read"):
        gone.memo.get("s", "k")
    gone.close()
