"""The other commands: runs, show, chat, models, help."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from tests.cli.command import Command


def ran(wherry: Command, agent: str = "agents.py:crew") -> str:
    """Run an agent; the run's id."""
    done = wherry("run", "Add one and two.", "--agent", agent, "--json")
    return str(json.loads(done.stdout.splitlines()[-1])["run_id"])


@pytest.mark.slow
def test_runs_lists_the_newest_first(wherry: Command) -> None:
    first, second = ran(wherry), ran(wherry, "agents.py:failing")
    header, *rows = wherry("runs").stdout.splitlines()
    assert header.split()[:4] == ["run", "started", "status", "agent"]
    assert [row.split()[0] for row in rows] == [second, first]
    assert "failed" in rows[0]
    assert "completed" in rows[1]
    assert rows[1].endswith("Add one and two.")
    assert len(wherry("runs", "-n", "1").stdout.splitlines()) == 2
    assert len(wherry("runs", "--all").stdout.splitlines()) == 4


@pytest.mark.slow
def test_runs_are_found_by_what_is_known_of_them_and_by_what_was_said(wherry: Command) -> None:
    first, second = ran(wherry), ran(wherry, "agents.py:failing")

    def listed(*options: str) -> list[str]:
        return [json.loads(line)["run_id"] for line in wherry("runs", "--json", *options).stdout.splitlines()]

    assert listed("--status", "completed") == [first]
    assert listed("--status", "failed") == [second]
    assert listed("--since", "1h") == [second, first]
    assert listed("--until", "2020-01-01") == []
    (child,) = listed("--agent", "helper")
    assert listed("--parent", first[:16]) == [child]
    assert listed("--agent", "boss", "--model", "nothing like it") == []
    assert listed("--search", "three") == [first]
    assert set(listed("--search", "three", "--all")) == {child, first}
    assert listed("--search", '"NEAR( * :') == []
    found = json.loads(wherry("runs", "--search", "three", "--json").stdout)["found"]
    assert found["run_id"] in (child, first)
    assert "three" in found["text"]
    shown = wherry("runs", "--search", "three").stdout.splitlines()
    assert f"{found['kind']}, record {found['seq']}" in shown[2]
    assert "three" in shown[2]
    assert wherry("runs", "--status", "failed", "--search", "three").stdout == "no such runs\n"
    wrong = wherry("runs", "--status", "odd")
    assert (wrong.returncode, "waiting" in wrong.stderr) == (2, True)
    assert wherry("runs", "--since", "whenever").returncode == 2
    assert wherry("runs", "--parent", "zzz").returncode == 1


@pytest.mark.slow
def test_show_looks_as_the_run_looked(wherry: Command) -> None:
    done = wherry("run", "Add one and two.", "--agent", "agents.py:crew")
    run_id = done.stdout.split()[-1]
    shown = wherry("show", run_id[:12])
    assert shown.returncode == 0
    assert shown.stdout == done.stdout


@pytest.mark.slow
def test_show_json_is_the_journal(wherry: Command) -> None:
    done = wherry("run", "Add one and two.", "--agent", "agents.py:crew", "--json")
    live = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    shown = [json.loads(line) for line in wherry("show", live[0]["run_id"], "--json").stdout.splitlines()]
    assert shown == live


@pytest.mark.slow
@pytest.mark.parametrize("beginning", ["", "zz", "nothing-like-it"])
def test_show_of_an_unknown_run(wherry: Command, beginning: str) -> None:
    ran(wherry)
    done = wherry("show", beginning)
    assert done.returncode == 1
    assert f"no run's id begins with {beginning!r}" in done.stderr


@pytest.mark.slow
def test_show_of_a_beginning_that_several_have(wherry: Command) -> None:
    first, second = ran(wherry, "agents.py:echo"), ran(wherry, "agents.py:echo")
    shared = next(n for n in range(len(first)) if first[n] != second[n])
    done = wherry("show", first[:shared])
    assert done.returncode == 1
    assert "2 runs' ids begin with" in done.stderr


@pytest.mark.slow
def test_show_of_a_run_whose_process_was_killed(wherry: Command) -> None:
    process = wherry.start("run", "wait", "--agent", "agents.py:sleeping")
    assert process.stdout is not None
    for line in process.stdout:
        if "nap()" in line:
            break
    process.kill()
    process.communicate(timeout=30)
    row = json.loads(wherry("runs", "--json").stdout)
    shown = wherry("show", row["run_id"])
    assert shown.returncode == 0
    assert "│   nap()" in shown.stdout  # it was in the journal before it was called
    assert "the run has no end yet" in shown.stdout


@pytest.mark.slow
def test_chat_answers_line_by_line_in_one_session(wherry: Command) -> None:
    done = wherry("chat", "--agent", "agents.py:echo", text="hello\n\nonce more\n")
    assert done.returncode == 0, done.stderr
    assert "heard hello" in done.stdout
    assert "heard once more" in done.stdout
    assert "total" in done.stdout
    rows = [json.loads(line) for line in wherry("runs", "--json").stdout.splitlines()]
    assert [row["task"] for row in rows] == ["once more", "hello"]
    assert len({row["session"] for row in rows}) == 1
    assert rows[0]["session"].startswith("chat-")


@pytest.mark.slow
def test_chat_goes_on_after_a_failed_answer(wherry: Command) -> None:
    done = wherry("chat", "--agent", "agents.py:failing", text="one\ntwo\n")
    assert done.returncode == 0
    assert done.stdout.count("✘ agent failed") == 2
    assert "Traceback" not in done.stderr


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(wherry: Command) -> None:
    process = wherry.start("chat", "--agent", "agents.py:hanging")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("wait\n")
    process.stdin.flush()
    for line in process.stdout:
        if "step 1" in line:
            break
    process.send_signal(signal.SIGINT)
    for line in process.stdout:
        if "cancelled" in line:
            break
    process.stdin.write("again\n")
    process.stdin.flush()
    for line in process.stdout:
        if "step 1" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)  # closes the input too: the end of the chat
    assert process.returncode == 0, err
    assert "cancelled" in out


@pytest.mark.slow
def test_models_list_names_what_each_costs(wherry: Command) -> None:
    text = wherry("models", "list").stdout
    rows = [json.loads(line) for line in wherry("models", "list", "--json").stdout.splitlines()]
    assert {"qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m"} <= {row["name"] for row in rows}
    assert all(row["name"] in text and row["path"] is None and len(row["sha256"]) == 64 for row in rows)


@pytest.mark.slow
def test_the_path_of_a_model_that_is_not_here(wherry: Command) -> None:
    done = wherry("models", "path", "smollm2-135m")
    assert (done.returncode, done.stdout) == (1, "")
    assert "wherry models pull smollm2-135m" in done.stderr
    assert wherry("models", "path", "gpt-5").returncode == 1
    assert wherry("models", "pull", "gpt-5").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("run",), ("run", "x", "--nonsense"), ("models",)])
def test_a_wrong_command_line_is_code_2(wherry: Command, arguments: tuple[str, ...]) -> None:
    done = wherry(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_version_and_help(wherry: Command) -> None:
    from wherry import __version__

    assert wherry("--version").stdout == f"wherry {__version__}\n"
    text = wherry("--help").stdout
    for command in ("run", "chat", "runs", "show", "models"):
        assert f"  {command} " in text


def test_help_loads_little(wherry: Command) -> None:
    """By what is imported, not by the clock: the agents, the models and pydantic are not."""
    code = (
        "import sys; sys.argv = ['wherry', '--help']\n"
        "from wherry.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'wherry.agents', 'wherry.models', 'asyncio', 'rich', 'openai', 'sqlite3'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=wherry.environment, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"
