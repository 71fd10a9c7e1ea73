"""Servers that the store's tests share; each is started once a test process, when it is first asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from tests.store.services import PostgresServer, RedisServer, folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with folder("postgres") as place:
        server = PostgresServer(place)
        yield server
        server.stop("immediate")


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A store of its own in the shared server."""
    return f"{postgres_server.url}?schema=t{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with folder("redis") as place:
        server = RedisServer(place)
        yield server
        server.stop()
