"""`wherry show RUN --view` and `--record`: one side of a run at a time."""

from __future__ import annotations

import json

import pytest
from tests.cli.command import Command
from tests.cli.test_commands import ran


@pytest.mark.slow
def test_the_answer_alone(wherry: Command) -> None:
    run_id = ran(wherry)
    assert json.loads(wherry("show", run_id, "--view", "answer").stdout) == {"sum": 3}
    shown = json.loads(wherry("show", run_id, "--view", "answer", "--json").stdout)
    assert shown == {"run_id": run_id, "status": "completed", "output": {"sum": 3}}


@pytest.mark.slow
def test_the_code_is_a_script(wherry: Command) -> None:
    run_id = ran(wherry, "agents.py:code")
    script = wherry("show", run_id, "--view", "code").stdout
    assert script.splitlines()[:3] == ["# step 1", "x = 6 * 7", "print(x)"]
    compile(script, "script", "exec")
    steps = [
        json.loads(line)["step"] for line in wherry("show", run_id, "--view", "code", "--json").stdout.splitlines()
    ]
    assert steps == [1, 2]


@pytest.mark.slow
def test_the_calls_with_what_came_of_them(wherry: Command) -> None:
    run_id = ran(wherry)
    (row,) = (json.loads(line) for line in wherry("runs", "--parent", run_id, "--json").stdout.splitlines())
    calls = [
        json.loads(line) for line in wherry("show", row["run_id"], "--view", "calls", "--json").stdout.splitlines()
    ]
    added = next(call for call in calls if call["name"] == "add")
    assert (added["step"], added["ok"], json.loads(added["arguments"])) == (1, True, {"a": 1, "b": 2})
    assert added["result"] == "3"
    header, *lines = wherry("show", run_id, "--view", "calls").stdout.splitlines()
    assert header.split() == ["record", "step", "name", "took", "ok", "arguments"]
    assert any("helper" in line and "add 1 and 2" in line for line in lines)


@pytest.mark.slow
def test_the_requests_and_the_runs_below(wherry: Command) -> None:
    run_id = ran(wherry)
    requests = [json.loads(line) for line in wherry("show", run_id, "--view", "requests", "--json").stdout.splitlines()]
    assert [row["request"] for row in requests] == [1, 2]
    assert requests[1]["messages"] > requests[0]["messages"]
    header, top, child = wherry("show", run_id, "--view", "tree").stdout.splitlines()
    assert header.split()[0] == "run"
    assert top.startswith(run_id)
    assert child.startswith("  ")
    assert "helper" in child


@pytest.mark.slow
def test_a_record_whole(wherry: Command) -> None:
    run_id = ran(wherry)
    shown = json.loads(wherry("show", run_id, "--record", "1").stdout)
    assert (shown["seq"], shown["type"], shown["payload"]["task"]) == (1, "run.started", "Add one and two.")
    assert json.loads(wherry("show", run_id, "--record", "1", "--json").stdout) == shown
    assert wherry("show", run_id, "--record", "9999").returncode == 1
    assert wherry("show", run_id, "--record", "1", "--view", "code").returncode == 2
    assert wherry("show", run_id, "--view", "code").stdout == ""
