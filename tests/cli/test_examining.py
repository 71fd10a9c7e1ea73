"""cost, doctor RUN, fit: what a run took, and what a model would."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.cli.command import Command


def ran(wherry: Command, agent: str = "agents.py:crew") -> str:
    done = wherry("run", "Add one and two.", "--agent", agent, "--json")
    return str(json.loads(done.stdout.splitlines()[-1])["run_id"])


@pytest.mark.slow
def test_cost_of_a_run_is_what_its_result_says(wherry: Command) -> None:
    done = wherry("run", "Add one and two.", "--agent", "agents.py:crew", "--json")
    result = json.loads(done.stdout.splitlines()[-1])
    said = json.loads(wherry("cost", result["run_id"], "--json").stdout)
    assert said["runs"] == 2  # the crew and its specialist
    for unit in ("requests", "input_tokens", "output_tokens", "tool_calls", "usd"):
        assert said["total"][unit] == result["usage"][unit], unit
    table = wherry("cost", result["run_id"][:14]).stdout
    assert table.splitlines()[0].split()[:3] == ["agent", "model", "requests"]
    assert "tool " in table


@pytest.mark.slow
def test_cost_since_adds_all_runs_up(wherry: Command) -> None:
    one = json.loads(wherry("cost", ran(wherry), "--json").stdout)["total"]
    ran(wherry)
    both = json.loads(wherry("cost", "--since", "1h", "--json").stdout)
    assert both["total"]["requests"] == 2 * one["requests"]
    tomorrow = (datetime.now() + timedelta(days=1)).date().isoformat()
    assert json.loads(wherry("cost", "--since", tomorrow, "--json").stdout)["total"]["requests"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("x", "--since", "1d"), ("--since", "soon"), ("--since", "-3d")])
def test_cost_of_what_cannot_be_is_refused(wherry: Command, arguments: tuple[str, ...]) -> None:
    done = wherry("cost", *arguments)
    assert done.returncode == 2
    assert "hint:" in done.stderr


@pytest.mark.slow
def test_doctor_shows_the_requests_of_a_run(wherry: Command) -> None:
    run = ran(wherry)
    done = wherry("doctor", run)
    assert done.returncode == 0
    for title in ("largest messages", "where it came from", "what made it smaller", "runs that it started"):
        assert title in done.stdout
    found = json.loads(wherry("doctor", run, "--json").stdout)
    assert found["run_id"] == run
    assert all(request["counted"] > 0 for request in found["requests"])


@pytest.mark.slow
def test_doctor_writes_a_page(wherry: Command, tmp_path: Path) -> None:
    page = tmp_path / "growth.html"
    done = wherry("doctor", ran(wherry), "--html", str(page))
    assert done.returncode == 0
    assert done.stdout == ""
    assert page.read_text("utf-8").startswith("<!doctype html>")
    refused = wherry("doctor", ran(wherry), "--html", str(tmp_path / "no" / "folder.html"))
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr


@pytest.mark.slow
def test_fit_says_what_does_not_fit(wherry: Command, tmp_path: Path) -> None:
    shape = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "vocab_size": 128_000,
             "num_key_value_heads": 8, "intermediate_size": 28_672, "torch_dtype": "bfloat16"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape))
    done = wherry("fit", str(tmp_path), "--ctx", "100000", "--parallel", "64")
    assert done.returncode == 1
    assert "does not fit" in done.stdout
    assert "hint:" in done.stdout
    assert json.loads(wherry("fit", str(tmp_path), "--json").stdout)["bytes"]["weights"] > 130e9


@pytest.mark.parametrize(("limit", "said"), [("requests=1.5", "no whole number"), ("seconds=x", "no number")])
def test_a_limit_that_is_no_number_says_which_kind_it_needs(wherry: Command, limit: str, said: str) -> None:
    done = wherry("run", "Add one and two.", "--agent", "agents.py:crew", "--limit", limit)
    assert done.returncode == 2
    assert said in done.stderr


def test_fit_of_no_model(wherry: Command) -> None:
    done = wherry("fit", "nothing.gguf")
    assert done.returncode == 1
    assert "no such file" in done.stderr
