"""Every store does what the protocol says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from tests.store.services import RedisServer

from wherry.store import Store, open_store
from wherry.testing import check_store


@pytest.mark.parametrize("url", ["sqlite:///{}/w.db", "sqlite:///{}/w.db?synchronous=full", "memory://"])
def test_a_store_conforms(url: str, tmp_path: Path) -> None:
    check_store(lambda: open_store(url.format(tmp_path)))


@pytest.mark.parametrize("url", ["sqlite:///{}/w.db", "memory://"])
@pytest.mark.parametrize("artifacts", ["memory:///", "file://{}/objects"])
def test_a_store_with_artifacts_elsewhere_conforms(url: str, artifacts: str, tmp_path: Path) -> None:
    check_store(lambda: open_store(url.format(tmp_path), artifacts=artifacts.format(tmp_path)))


@pytest.mark.services
def test_a_store_in_postgresql_conforms(postgres_url: str) -> None:
    check_store(lambda: open_store(postgres_url))


@pytest.mark.services
def test_a_store_with_its_memo_in_redis_conforms(redis_server: RedisServer) -> None:
    check_store(lambda: open_store("memory://", memo=redis_server.url))


class Liar:
    """Stands for an object, but one of its methods forgets a keyword, or always gives the same."""

    def __init__(self, real: object, method: str, lie: str | bytes | float | None) -> None:
        self._real, self._method, self._lie = real, method, lie

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name != self._method:
            return real

        def lying(*values: Any, **options: Any) -> Any:
            if isinstance(self._lie, str):
                options.pop(self._lie, None)
                return real(*values, **options)
            return self._lie

        return lying


class StoreWith:
    """A store with another object in place of one of its parts."""

    def __init__(self, store: Store, part: str, other: object) -> None:
        self._store, self._part, self._other = store, part, other

    def __getattr__(self, name: str) -> Any:
        return self._other if name == self._part else getattr(self._store, name)


LIES: dict[str, tuple[str, str, str | bytes | float | None]] = {
    "a comparison that always holds": ("memo", "compare_and_set", True),
    "a comparison that never holds": ("memo", "compare_and_set", False),
    "a memo that keeps for ever": ("memo", "set", "ttl"),
    "a link that is none": ("artifacts", "link", None),
    "a cursor that is forgotten": ("search", "add", "cursor"),
    "a search without a limit": ("search", "find", "limit"),
    "an expected position that is ignored": ("transcripts", "append", "expected"),
    "a cache that keeps for ever": ("cache", "put", "ttl"),
    "a cache without a size": ("cache", "prune", "keep_bytes"),
    "a rate that gives everything": ("rates", "take", 0.0),
    "a rate that takes nothing back": ("rates", "give_back", None),
    "a session that takes the last": ("", "save_session", "expected"),
    "events from the first": ("", "events", "after"),
    "runs of all sessions": ("", "runs", "session"),
    "a message that is always there": ("", "message", b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_the_suite_finds_a_store_that_lies(lie: str) -> None:
    part, method, what = LIES[lie]

    def make() -> Store:
        store = open_store("memory://")
        liar = Liar(getattr(store, part) if part else store, method, what)
        return cast("Store", StoreWith(store, part, liar) if part else liar)

    with pytest.raises(AssertionError):
        check_store(make)
