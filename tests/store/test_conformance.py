"""Every store does what the protocol says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.services import RedisServer

from wherry.store import open_store
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
