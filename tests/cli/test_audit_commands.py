"""`wherry audit` and `wherry prune`, as an auditor types them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.cli.command import Command
from tests.cli.test_commands import ran

from wherry.messages import canonical, digest


def database(wherry: Command) -> Path:
    (found,) = wherry.folder.rglob("*.db")
    return found


@pytest.mark.slow
def test_a_journal_is_verified_and_tampering_is_named(wherry: Command) -> None:
    run_id = ran(wherry)
    done = wherry("audit", "verify")
    assert (done.returncode, "nothing was changed" in done.stdout) == (0, True)
    head = wherry("audit", "head").stdout.strip()
    assert wherry("audit", "verify", "--since", head).returncode == 0
    assert wherry("audit", "verify", run_id[:14]).returncode == 0
    with sqlite3.connect(database(wherry)) as intruder:
        query = "UPDATE events SET time = 1 WHERE id = (SELECT id << 32 | 2 FROM journals WHERE run_id = ?)"
        intruder.execute(query, (run_id,))
    intruder.close()
    done = wherry("audit", "verify")
    assert done.returncode == 1
    assert f"run {run_id}: record 2 is not what was written" in done.stdout
    broken, report = (json.loads(line) for line in wherry("audit", "verify", "--json").stdout.splitlines())
    assert (broken["run_id"], broken["seq"], report["breaks"]) == (run_id, 2, 1)
    assert wherry("audit", "verify", "--since", "nonsense").returncode == 2


@pytest.mark.slow
def test_an_export_holds_the_run_and_those_below_it(wherry: Command) -> None:
    run_id = ran(wherry)
    ran(wherry, "agents.py:echo")
    done = wherry("audit", "export", run_id, "-o", "out.jsonl", "--key", "key.pem")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("signed by ")
    lines = [json.loads(line) for line in (wherry.folder / "out.jsonl").read_text("ascii").splitlines()]
    rows = [line["run"] for line in lines if "run" in line]
    assert [row["parent_run_id"] for row in rows] == [None, run_id]
    assert lines[-1]["public_key"] in done.stderr
    whole = wherry("audit", "export").stdout.splitlines()
    assert sum("run" in json.loads(line) for line in whole) == 3


@pytest.mark.slow
def test_old_runs_are_pruned_and_still_verify(wherry: Command) -> None:
    run_id = ran(wherry)
    assert wherry("prune").returncode == 2
    assert wherry("prune", "--older-than", "soon").returncode == 2
    assert "0 runs pruned" in wherry("prune", "--older-than", "90d").stdout
    assert run_id in wherry("prune", "--older-than", "0h", "--dry-run").stdout
    assert "2 runs pruned" in wherry("prune", "--older-than", "0h").stdout
    done = wherry("audit", "verify")
    assert (done.returncode, "2 of them pruned" in done.stdout) == (0, True)
    shown = wherry("show", run_id)
    assert (shown.returncode, "removed by pruning" in shown.stderr) == (1, True)


@pytest.mark.slow
def test_what_the_model_saw_is_shown(wherry: Command) -> None:
    run_id = ran(wherry, "agents.py:crew")
    done = wherry("show", run_id, "--request", "1")
    assert done.returncode == 0, done.stderr
    assert "--- 1 system, " in done.stdout
    assert "Add one and two." in done.stdout
    lines = [json.loads(line) for line in wherry("show", run_id, "--request", "1", "--json").stdout.splitlines()]
    messages = [line for line in lines if line["type"] == "message"]
    assert [line["message"]["role"] for line in messages] == ["system", "user"]
    assert all(digest(canonical(line["message"])) == line["digest"] for line in messages)
    missing = wherry("show", run_id, "--request", "99")
    assert (missing.returncode, "no request 99" in missing.stderr) == (1, True)
