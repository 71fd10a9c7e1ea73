"""A process is killed at every boundary of a write: what it was told is there, and another one goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.services import RedisServer
from tests.store.workload import STEPS, check_told, state, work

from wherry.failpoints import FAILPOINTS, VARIABLE
from wherry.store import Store, open_store

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "wherry"
STORE_PLACES = {
    name
    for source in (*SOURCES.glob("store/*.py"), *SOURCES.glob("journal/*.py"))
    for name in re.findall(r'failpoint\("([^"]+)"\)', source.read_text("utf-8"))
}
FOLDER_ONLY = {"artifact.created", "artifact.written", "artifact.synced", "artifact.renamed"}
CHECKPOINTS = {"checkpoint.begin", "checkpoint.half", "checkpoint.end"}
REDIS = {"memo.redis", "memo.redis.done"}
IN_TRANSACTIONS = {"memo.value", "memo.put", "memo.removed"}


def run(url: str, failpoint: str, *more: str) -> tuple[int, list[list[Any]]]:
    """Let a process do all of the work; its exit code, and what it was told."""
    command = [sys.executable, "-m", "tests.store.workload", url, *more]
    environment = {**os.environ, VARIABLE: failpoint}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def survives(url: str, failpoint: str, whole: dict[str, Any], *more: str) -> bool:
    """Kill a process there, look at what it left, go on; whether it came by there at all."""
    code, told = run(url, failpoint, *more)
    store = open_store(url, memo=more[0] if more else None)
    try:
        state(store)
        check_told(store, told)
        work(store)
        assert state(store) == whole
        store.artifacts.sweep(before=time.time() + 1)
        if url.startswith("sqlite:"):
            place = Path(url.removeprefix("sqlite:///").partition("?")[0] + ".artifacts")
            assert len([path for path in place.rglob("*") if path.is_file()]) == STEPS
    finally:
        store.close()
    return code != 0


def undisturbed() -> dict[str, Any]:
    store = open_store("memory://")
    work(store)
    found = state(store)
    store.close()
    return found


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return undisturbed()


def trace(url: str, path: Path, *more: str) -> list[str]:
    """The places that are passed when nothing happens, in order."""
    code, _ = run(url, f"trace:{path}", *more)
    assert code == 0
    return path.read_text().split()


def test_every_place_is_listed_and_every_listed_one_is_a_place() -> None:
    used: set[str] = set()
    for source in SOURCES.rglob("*.py"):
        used |= set(re.findall(r'failpoint\("([^"]+)"\)', source.read_text("utf-8")))
    assert used == set(FAILPOINTS)


def test_the_work_passes_every_place(tmp_path: Path) -> None:
    passed = trace(f"sqlite:///{tmp_path}/w.db", tmp_path / "trace")
    assert set(passed) == STORE_PLACES - REDIS


@pytest.mark.slow
@pytest.mark.parametrize("place", sorted(STORE_PLACES - REDIS))
def test_a_process_that_is_killed_at_a_boundary_loses_nothing(
    place: str, tmp_path: Path, whole: dict[str, Any]
) -> None:
    assert survives(f"sqlite:///{tmp_path}/w.db", place, whole)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["normal", "full"])
def test_a_process_that_is_killed_anywhere_loses_nothing(mode: str, tmp_path: Path, whole: dict[str, Any]) -> None:
    count = len(trace(f"sqlite:///{tmp_path}/trace.db?synchronous={mode}", tmp_path / "trace"))
    assert count > 100
    # Every fifth here, another fifth in the other mode. What a thread does at the end may come in another order.
    for number in range(1 if mode == "normal" else 3, count - 5, 5):
        assert survives(f"sqlite:///{tmp_path}/{number}.db?synchronous={mode}", f"*:{number}", whole), number


@pytest.mark.services
@pytest.mark.parametrize("place", sorted(STORE_PLACES - REDIS - FOLDER_ONLY - CHECKPOINTS))
def test_a_process_that_is_killed_at_a_boundary_loses_nothing_on_postgresql(
    place: str, postgres_url: str, whole: dict[str, Any]
) -> None:
    assert survives(postgres_url, place, whole)


@pytest.mark.services
def test_content_that_a_killed_process_left_on_postgresql_is_swept_up(postgres_url: str) -> None:
    assert run(postgres_url, "artifact.kept")[0] == -9
    store = open_store(postgres_url)
    assert store.artifacts.sweep(before=time.time()) > 80_000
    assert store.artifacts.sweep(before=time.time()) == 0
    store.close()


@pytest.mark.services
@pytest.mark.parametrize("place", sorted(REDIS))
@pytest.mark.parametrize("number", [2, 3])
def test_a_process_that_is_killed_at_a_boundary_loses_nothing_in_redis(
    place: str, number: int, redis_server: RedisServer, tmp_path: Path, whole: dict[str, Any], clean: None
) -> None:
    assert survives(f"sqlite:///{tmp_path}/w.db", f"{place}:{number}", whole, redis_server.url)


@pytest.fixture
def clean(redis_server: RedisServer) -> Iterator[Store]:
    """The server is everybody's, and the work's scopes have names of their own."""
    store = open_store("memory://", memo=redis_server.url)

    def forget() -> None:
        for scope in ("shared", "run:old"):
            for key in store.memo.list(scope):
                store.memo.delete(scope, key)

    forget()
    yield store
    forget()
    store.close()


@pytest.mark.parametrize("wrong", ["nowhere", "memo.put:x"])
def test_a_place_that_is_none_is_refused(wrong: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import wherry.failpoints"],
        env={**os.environ, VARIABLE: wrong},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert VARIABLE in done.stderr
