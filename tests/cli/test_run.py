"""`wherry run`: what is shown, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import Command


def last_run(wherry: Command) -> dict[str, object]:
    return json.loads(wherry("runs", "--json").stdout.splitlines()[0])


@pytest.mark.slow
def test_a_crew_in_a_pipe_is_plain_lines_then_answer_costs_and_run_id(wherry: Command) -> None:
    done = wherry("run", "Add one and two.", "--agent", "agents.py:crew")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "● boss  tools agent on scripted, window 128,000"
    assert lines[1] == "│ Add one and two."
    assert "│ ● helper  tools agent on scripted, window 128,000" in lines
    assert "│ │   add(a=1, b=2)" in lines
    start = next(number for number, line in enumerate(lines) if line.startswith("✔ boss completed, 2 steps"))
    assert json.loads(lines[start + 2].replace("'", '"')) == {"sum": 3}
    assert [line.split()[:3] for line in lines[start + 6 : start + 8]] == [
        ["boss", "scripted", "2"],
        ["helper", "scripted", "2"],
    ]
    assert lines[-1] == f"run {last_run(wherry)['run_id']}"


@pytest.mark.slow
def test_a_code_agent_shows_its_code(wherry: Command) -> None:
    done = wherry("run", "What is six times seven?", "--agent", "agents:code")
    assert done.returncode == 0, done.stderr
    assert "│   ▏ x = 6 * 7\n│   ▏ print(x)\n│   → 42\n" in done.stdout


@pytest.mark.slow
def test_json_lines_are_the_journal_and_then_the_result(wherry: Command) -> None:
    done = wherry("run", "Add.", "--agent", "agents.py:crew", "--json")
    assert done.returncode == 0
    *events, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["type"] == "run.started"
    assert events[-1]["type"] == "run.finished"
    assert {event["agent"] for event in events} == {"boss", "helper"}
    assert [event["seq"] for event in events if event["agent"] == "boss"] == list(
        range(1, sum(event["agent"] == "boss" for event in events) + 1)
    )
    assert result["type"] == "result"
    assert result["status"] == "completed"
    assert result["output"] == {"sum": 3}
    assert result["run_id"] == events[0]["run_id"]
    assert result["usage"]["requests"] == 4


@pytest.mark.slow
def test_quiet_prints_the_answer_alone(wherry: Command) -> None:
    done = wherry("run", "hello", "--agent", "agents.py:echo", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard hello\n", "")


COLUMNS = "name\tsize  \n\x1b[2Jx\t1"


@pytest.mark.slow
def test_an_answer_in_a_pipe_is_as_the_agent_gave_it(wherry: Command) -> None:
    assert wherry("run", "x", "--agent", "agents.py:columns", "-q").stdout == f"{COLUMNS}\n"
    live = wherry("run", "x", "--agent", "agents.py:columns").stdout
    assert f"\n\n{COLUMNS}\n\n" in live
    assert wherry("show", live.split()[-1]).stdout == live


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [("-q",), ()])
def test_an_answer_on_a_terminal_cannot_act(wherry: Command, quiet: tuple[str, ...]) -> None:
    written = wherry.on_a_terminal("run", "x", "--agent", "agents.py:columns", *quiet)
    assert b"\x1b[2J" not in written
    assert b"\\x1b[2Jx" in written


@pytest.mark.slow
def test_a_large_answer_is_the_same_value_as_a_small_one(wherry: Command) -> None:
    done = wherry("run", "x", "--agent", "agents.py:large", "--json")
    *_, finished, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert finished["payload"]["ref"] is not None
    assert result["output"] == {"rows": list(range(30_000))}


def test_the_example_crew_can_be_loaded_from_anywhere(wherry: Command) -> None:
    example = Path(__file__).parents[2] / "examples" / "crew" / "crew.py"
    done = wherry("run", "x", "--agent", f"{example}:nobody")
    assert done.returncode == 2
    assert "make_crew" in done.stderr


@pytest.mark.slow
def test_the_store_of_the_command_goes_before_the_agents_own(wherry: Command) -> None:
    command = ("run", "x", "--agent", "agents.py:stored", "-q")
    assert wherry(*command, "--store", "sqlite:///named.db").returncode == 0
    assert len(wherry("runs", "--json", "--store", "sqlite:///named.db").stdout.splitlines()) == 1
    assert not (wherry.folder / "own.db").exists()
    # The environment's is a default.
    assert wherry(*command, environment={"WHERRY_STORE": "sqlite:///default.db"}).returncode == 0
    assert len(wherry("runs", "--json", "--store", "sqlite:///own.db").stdout.splitlines()) == 1


@pytest.mark.slow
def test_a_file_imports_its_neighbours(wherry: Command) -> None:
    folder = wherry.folder / "sub"
    folder.mkdir()
    (folder / "neighbour.py").write_text("from agents import echo\n", encoding="utf-8")
    (folder / "crew.py").write_text("from neighbour import echo\nagent = echo()\n", encoding="utf-8")
    done = wherry("run", "hi", "--agent", "sub/crew.py:agent", "-q")
    assert (done.returncode, done.stdout) == (0, "heard hi\n"), done.stderr


@pytest.mark.slow
def test_a_task_from_standard_input(wherry: Command) -> None:
    done = wherry("run", "-", "--agent", "agents.py:echo", "-q", text="from a pipe")
    assert done.stdout == "heard from a pipe\n"


@pytest.mark.slow
def test_max_steps_ends_with_a_last_word_and_code_4(wherry: Command) -> None:
    done = wherry("run", "x", "--agent", "agents.py:endless", "--max-steps", "2", "--json")
    assert done.returncode == 4
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["status"], result["output"], result["steps"]) == ("max_steps", "gave up", 2)


@pytest.mark.slow
def test_a_session_goes_on(wherry: Command) -> None:
    for task in ("first", "second"):
        assert wherry("run", task, "--agent", "agents.py:echo", "--session", "s", "-q").returncode == 0
    rows = [json.loads(line) for line in wherry("runs", "--session", "s", "--json").stdout.splitlines()]
    assert [row["task"] for row in rows] == ["second", "first"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "options", "heard"),
    [
        ("agents.py:wants", (), "model=none given"),
        ("agents.py:wants", ("--model", "http://127.0.0.1:9/v1#m"), "model=http://127.0.0.1:9/v1#m"),
        ("agents:made", (), "heard hi"),
    ],
)
def test_agents_and_functions_that_make_them(wherry: Command, agent: str, options: tuple[str, ...], heard: str) -> None:
    done = wherry("run", "hi", "--agent", agent, "-q", *options)
    assert (done.returncode, done.stdout) == (0, f"{heard}\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agent", "agents.py:nobody"), "there is no 'nobody'"),
        (("--agent", "nowhere.py:x"), "there is no file 'nowhere.py'"),
        (("--agent", "no.such.module:x"), "there is no module 'no.such.module'"),
        (("--agent", "agents.py"), "'agents.py' names no agent"),
        (("--agent", "agents.py:number"), "is no agent, but of type int"),
        (("--agent", "agents.py:no_agent"), "made no agent, but a int"),
        (("--agent", "agents.py:leaves"), "'agents.py:leaves' cannot be loaded: SystemExit: 0"),
        (("--agent", "script.py:agent"), "'script.py' cannot be loaded: SystemExit: 0"),
        (("--agent", "script:agent"), "'script' cannot be loaded: SystemExit: 0"),
        (("--agent", "agents.py:broken"), "ZeroDivisionError: in the user's own code"),
        (("--agent", "agents.py:refuses"), "not like this"),
        (("--model", "nonsense"), "'nonsense' names no model"),
        (("--agent", "agents.py:echo", "--max-steps", "0"), "max-steps"),
        (("--agent", "agents.py:echo", "--store", "ftp://x"), "ftp"),
    ],
)
def test_what_the_user_got_wrong_is_said_with_code_2(wherry: Command, arguments: tuple[str, ...], said: str) -> None:
    (wherry.folder / "script.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    done = wherry("run", "task", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_an_empty_task_is_refused(wherry: Command) -> None:
    done = wherry("run", " ", "--agent", "agents.py:echo")
    assert done.returncode == 2
    assert "the task is empty" in done.stderr


def test_a_broken_file_says_which_line(wherry: Command) -> None:
    (wherry.folder / "bad.py").write_text("x = 1\ndef f(:\n", encoding="utf-8")
    done = wherry("run", "task", "--agent", "bad.py:f")
    assert done.returncode == 2
    assert "SyntaxError" in done.stderr
    assert "bad.py, line 2" in done.stderr


@pytest.mark.slow
def test_a_failing_model_is_told_with_code_1_and_the_run_is_kept(wherry: Command) -> None:
    done = wherry("run", "task", "--agent", "agents.py:failing")
    assert done.returncode == 1
    assert "✘ agent failed" in done.stdout
    assert "script" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert last_run(wherry)["status"] == "failed"


@pytest.mark.slow
def test_an_error_is_json_too(wherry: Command) -> None:
    done = wherry("run", "task", "--agent", "agents.py:failing", "--json")
    error = json.loads(done.stdout.splitlines()[-1])
    assert (error["type"], error["error"]) == ("error", "ModelError")
    assert error["run_id"] == last_run(wherry)["run_id"]


@pytest.mark.slow
def test_without_a_model_the_choices_are_said_on_one_screen(wherry: Command) -> None:
    done = wherry("run", "task")
    assert done.returncode == 2
    assert done.stdout == ""
    for word in (
        "qwen2.5-coder-1.5b",
        "1.1 GB",
        "wherry models pull",
        "openai/gpt-4o-mini",
        "http://127.0.0.1",
        "ollama/",
    ):
        assert word in done.stderr
    assert len(done.stderr.splitlines()) <= 24
    assert max(len(line) for line in done.stderr.splitlines()) <= 110
    assert wherry("runs").stdout == "no runs yet\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "sign", "number", "code"),
    [
        ("hanging", "step 1", signal.SIGINT, 130),
        ("hanging", "step 1", signal.SIGTERM, 143),
        ("looping", "while True", signal.SIGINT, 130),
        ("sleeping", "nap()", signal.SIGINT, 130),
        ("sleeping_hard", "heavy_nap()", signal.SIGINT, 130),
    ],
)
def test_a_signal_cancels_the_run_and_the_journal_says_so(
    wherry: Command, agent: str, sign: str, number: int, code: int
) -> None:
    process = wherry.start("run", "wait", "--agent", f"agents.py:{agent}")
    assert process.stdout is not None
    for line in process.stdout:
        if sign in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.startswith("go on with it: wherry resume ")
    assert "✘ sleeper cancelled" in out
    row = last_run(wherry)
    assert row["status"] == "cancelled"
    events = [json.loads(line) for line in wherry("show", str(row["run_id"]), "--json").stdout.splitlines()]
    assert events[-1]["type"] == "run.finished"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_what_nohup_started_outlives_its_terminal(wherry: Command) -> None:
    process = wherry.start("run", "wait", "--agent", "agents.py:reading", prefix=["nohup"])
    assert process.stdout is not None
    for line in process.stdout:
        if "step 1" in line:
            break
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate("still here\n", timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "\nstill here\n" in out


def test_after_a_run_signals_do_what_they_did_before(wherry: Command) -> None:
    code = """if True:
        import asyncio, signal
        from agents import echo
        from wherry.cli.running import Playing

        def mine(number, frame):
            pass

        signal.signal(signal.SIGTERM, mine)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        worker = echo()
        asyncio.run(Playing(worker, worker.astream("x")).follow())
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=wherry.folder,
        env=wherry.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_when_the_reader_goes_the_run_is_cancelled(wherry: Command) -> None:
    process = wherry.start("run", "talk", "--agent", "agents.py:talkative")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr is not None
    assert process.stdin is not None
    with process.stderr, process.stdin:
        assert process.stderr.read() == ""
    assert last_run(wherry)["status"] == "cancelled"


@pytest.mark.slow
def test_an_unexpected_error_is_one_line_and_a_file(wherry: Command) -> None:
    (wherry.folder / "agents.py").write_text(
        "from wherry import CodeAgent, ScriptedModel, ToolCallingAgent\n"
        "class Odd(ToolCallingAgent):\n"
        "    def prompt(self, *arguments):\n"
        "        raise KeyError('odd')\n"
        "agent = Odd([], ScriptedModel(['x']))\n",
        encoding="utf-8",
    )
    done = wherry("run", "task", "--agent", "agents.py:agent")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    first, second = done.stderr.splitlines()
    assert first == "wherry: unexpected KeyError: 'odd'"
    path = Path(second.split("traceback is in ")[1].split(";")[0])
    assert "Traceback" in path.read_text(encoding="utf-8")
    shown = wherry("--debug", "run", "task", "--agent", "agents.py:agent")
    assert "Traceback" in shown.stderr
    last = json.loads(wherry("run", "task", "--agent", "agents.py:agent", "--json").stdout.splitlines()[-1])
    assert (last["type"], last["error"], last["message"]) == ("error", "KeyError", "'odd'")


@pytest.mark.slow
def test_on_a_terminal_it_is_in_colour_and_the_waiting_line_is_gone_at_the_end(wherry: Command) -> None:
    written = wherry.on_a_terminal("run", "Add.", "--agent", "agents.py:crew")
    assert b"\x1b[" in written
    assert b"\x1b[?25h" in written[written.rindex(b"\x1b[?25l") :], "the cursor is shown again"


@pytest.mark.slow
def test_a_limit_ends_the_run_with_its_own_exit_code(wherry: Command) -> None:
    done = wherry("run", "Add one and two.", "--agent", "agents.py:crew", "--limit", "requests=1", "--json")
    assert done.returncode == 4
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["status"], result["usage"]["requests"]) == ("limit", 1)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["requests", "wishes=3", "requests=many", "requests=-1", "usd=x"])
def test_a_limit_that_is_none_is_refused(wherry: Command, limit: str) -> None:
    done = wherry("run", "Add.", "--agent", "agents.py:crew", "--limit", limit)
    assert done.returncode == 2
    assert "hint:" in done.stderr


@pytest.mark.slow
def test_a_run_that_a_limit_ended_goes_on_by_its_id_alone(wherry: Command) -> None:
    done = wherry("run", "say it", "--agent", "agents.py:echo", "--limit", "requests=0", "--quiet")
    assert done.returncode == 4
    assert done.stderr.startswith("go on with it: wherry resume ")
    run_id = done.stderr.split("wherry resume ")[1].split()[0]
    more = wherry("resume", run_id[:-2], "--limit", "requests=9", "--quiet")
    assert more.returncode == 0, more.stderr
    assert more.stdout == wherry("run", "say it", "--agent", "agents.py:echo", "--quiet").stdout
    again = wherry("resume", run_id, "--quiet")
    assert (again.returncode, again.stdout) == (0, more.stdout)


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_shown_as_interrupted_and_one_under_way_is_not(wherry: Command) -> None:
    process = wherry.start("run", "wait", "--agent", "agents.py:hanging")
    assert process.stdout is not None
    for line in process.stdout:
        if "step 1" in line:
            break
    assert last_run(wherry)["status"] == "running"
    process.kill()
    process.communicate(timeout=30)
    row = last_run(wherry)
    assert row["status"] == "interrupted"
    assert f"wherry resume {row['run_id']}" in wherry("show", str(row["run_id"])).stdout
