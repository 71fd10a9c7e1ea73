"""Approvals inside nested, parallel, code-mode calls, decided from other processes after restarts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.services import PostgresServer, folder

from wherry.journal import verify_store
from wherry.store import open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with folder("postgres") as place:
        server = PostgresServer(place)
        yield server
        server.stop()


def process(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def crew(*arguments: str) -> dict[str, Any]:
    return json.loads(process("-m", "tests.policy.crew", *arguments).splitlines()[-1])


def lines(log: Path) -> list[list[Any]]:
    return sorted(json.loads(line) for line in log.read_text("utf-8").splitlines())


def play(url: str, log: Path) -> None:
    first = crew("run", url, str(log))
    assert first["status"] == "waiting"
    assert sorted(first["pending"]) == ["ann", "bob"]
    assert lines(log) == [["look", "ann before"], ["look", "bob before"]]
    listed = process("-m", "wherry", "approvals", first["run_id"], "--store", url)
    assert 'clerk wants pay(amount=5, to="ann")' in listed
    process("-m", "wherry", "approve", first["pending"]["ann"], "--store", url)
    half = crew("resume", url, str(log), first["run_id"])
    assert (half["status"], list(half["pending"])) == ("waiting", ["bob"])
    assert ["pay", 5, "ann"] in lines(log)
    process("-m", "wherry", "deny", half["pending"]["bob"], "--reason", "not him", "--store", url)
    whole = crew("resume", url, str(log), first["run_id"])
    assert whole["status"] == "completed"
    said = [json.loads(text) for text in whole["output"]]
    assert said[0] == ["ann before is fine", "paid 5 to ann", "ann after is fine"]
    assert said[1][0] == "bob before is fine"
    assert "denied by a person: not him" in said[1][1]
    assert lines(log) == [
        ["look", "ann after"],
        ["look", "ann before"],
        ["look", "bob after"],
        ["look", "bob before"],
        ["pay", 5, "ann"],
    ]
    store = open_store(url)
    assert verify_store(store).breaks == []
    store.close()


@pytest.mark.slow
def test_nested_parallel_code_on_sqlite(tmp_path: Path) -> None:
    play(f"sqlite:///{tmp_path}/w.db", tmp_path / "log")


@pytest.mark.services
def test_nested_parallel_code_on_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    play(f"{postgres.url}?schema=approvals", tmp_path / "log")
