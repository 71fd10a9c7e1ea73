"""Calls that were under way when the process died: made again, settled, or put before a person."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import ApprovalError
from wherry.journal import EventType, read_events
from wherry.policy.approvals import Decision, decide, waiting
from wherry.store import open_store

ROOT = Path(__file__).parents[2]


class Dying:
    """A run that dies in its call."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.log = folder / "log"
        self.url = f"sqlite:///{folder}/w.db"

    def process(self, what: str, *rest: str, dies: bool = False) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "tests.policy.dying", what, self.kind, self.url, str(self.log), *rest],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == (9 if dies else 0), done.stderr
        return {} if dies else json.loads(done.stdout.splitlines()[-1])

    def die(self, to: str = "late") -> str:
        """The run's id."""
        self.process("run", to, dies=True)
        store = open_store(self.url)
        try:
            return store.runs()[0].run_id
        finally:
            store.close()

    def go_on(self, run_id: str) -> dict[str, Any]:
        return self.process("go on", run_id)

    def decide(self, decision: Decision) -> None:
        store = open_store(self.url)
        try:
            decide(store, waiting(store)[0].id, decision)
        finally:
            store.close()

    @property
    def made(self) -> int:
        return len(self.log.read_text("utf-8").splitlines()) if self.log.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "idempotent"])
def test_what_may_be_repeated_is(tmp_path: Path, kind: str) -> None:
    run = Dying(tmp_path, kind)
    result = run.go_on(run.die())
    assert (result["status"], result["output"]) == ("completed", ["paid late"])
    keys = run.log.read_text("utf-8").splitlines()
    assert len(keys) == 2
    assert keys[0] == keys[1]


@pytest.mark.slow
def test_a_checker_says_what_a_call_gave(tmp_path: Path) -> None:
    run = Dying(tmp_path, "checked")
    assert run.go_on(run.die())["output"] == ["paid, says the bank: late"]
    assert run.made == 1


@pytest.mark.slow
def test_a_checker_says_that_a_call_was_not_made(tmp_path: Path) -> None:
    run = Dying(tmp_path, "checked")
    run_id = run.die("early")
    run.log.touch()
    assert run.go_on(run_id)["output"] == ["paid early"]
    assert run.made == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unknown", "cannot tell"])
def test_what_nobody_knows_waits_for_a_person(tmp_path: Path, kind: str) -> None:
    run = Dying(tmp_path, kind)
    run_id = run.die()
    for _ in range(2):
        result = run.go_on(run_id)
        assert (result["status"], [kind for _, kind in result["pending"]]) == ("waiting", ["unknown"])
    run.decide(Decision(True, result="it went through"))
    assert run.go_on(run_id)["output"] == ["it went through"]
    assert run.made == 1


@pytest.mark.slow
def test_a_person_has_it_made_again(tmp_path: Path) -> None:
    run = Dying(tmp_path, "unknown")
    run_id = run.die("early")
    run.go_on(run_id)
    run.decide(Decision(True))
    run.process("resume", run_id, dies=True)  # it dies again: what was said of the first time holds for that alone
    result = run.go_on(run_id)
    assert result["status"] == "waiting"
    run.decide(Decision(True))
    assert run.go_on(run_id)["output"] == ["paid early"]
    assert run.made == 1


@pytest.mark.slow
def test_a_person_has_it_left_alone(tmp_path: Path) -> None:
    run = Dying(tmp_path, "unknown")
    run_id = run.die()
    run.go_on(run_id)
    run.decide(Decision(False, reason="ask the bank first"))
    [said] = run.go_on(run_id)["output"]
    assert "not made again: ask the bank first" in said
    assert run.made == 1


@pytest.mark.slow
def test_an_approved_call_that_dies_is_unknown_and_not_made_twice(tmp_path: Path) -> None:
    run = Dying(tmp_path, "approved")
    waits = run.process("run", "late")
    assert [kind for _, kind in waits["pending"]] == ["approval"]
    run.decide(Decision(True))
    run.process("resume", waits["run_id"], dies=True)
    assert run.made == 1
    again = run.go_on(waits["run_id"])
    assert [kind for _, kind in again["pending"]] == ["unknown"]
    assert run.made == 1
    run.decide(Decision(True, result="paid"))
    assert run.go_on(waits["run_id"])["output"] == ["paid"]
    store = open_store(run.url)
    kinds = [e.payload["kind"] for e in read_events(store, waits["run_id"]) if e.type is EventType.APPROVAL_DECIDED]
    store.close()
    assert kinds == ["approval", "unknown"]


def test_only_an_unknown_call_has_a_result(tmp_path: Path) -> None:
    run = Dying(tmp_path, "approved")
    run.process("run", "late")
    with pytest.raises(ApprovalError, match="takes no result"):
        run.decide(Decision(True, result="paid"))
