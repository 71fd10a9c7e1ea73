"""Code that is run without an agent."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tests.compat_smolagents.test_smolagents_face import double

from wherry.compat import smolagents as face
from wherry.compat.smolagents.local_python_executor import (
    CodeOutput,
    ExecutionTimeoutError,
    InterpreterError,
    LocalPythonExecutor,
)


@pytest.fixture
def run() -> Generator[LocalPythonExecutor]:
    with LocalPythonExecutor([]) as held:
        yield held


def test_variables_stay_and_prints_are_told(run: LocalPythonExecutor) -> None:
    assert face.LocalPythonExecutor is LocalPythonExecutor
    assert run("x = 6\nprint('hi')\ny = x * 7") == CodeOutput(42, "hi\n", False)
    assert run("y + 1").output == 43
    assert run("final_answer({'y': y})") == CodeOutput({"y": 42}, "", True)
    run.max_print_outputs_length = 50
    assert "truncated" in run("print('a' * 500)").logs


def test_values_go_in_and_out(run: LocalPythonExecutor) -> None:
    run.send_variables({"rows": [{"n": 1}, {"n": 2}], "name": "Ada"})
    assert run("sum(row['n'] for row in rows)").output == 3
    run.send_variables({"name": "Grace"})
    run("loud = name.upper()")
    assert run.state["loud"] == "GRACE"
    assert sorted(run.state) == ["loud", "name", "rows"]
    run.state["loud"] = 5
    del run.state["rows"]
    assert dict(run.state) == {"loud": 5, "name": "Grace"}
    assert "rows" not in run.state
    with pytest.raises(KeyError):
        run.state["rows"]
    run.send_variables({})


def test_functions_of_the_program() -> None:
    said: list[Any] = []
    with LocalPythonExecutor([], additional_functions={"say": said.append}) as run:
        run.send_tools({"double": double})
        assert run("say(double(n=4))\ndouble(21)").output == 42
        assert said == [8]
        with pytest.raises(InterpreterError, match="unlucky"):
            run("double(13)")
        run.send_tools({})
        with pytest.raises(InterpreterError, match="double"):
            run("double(1)")


def test_code_that_fails_is_told_with_what_it_printed(run: LocalPythonExecutor, tmp_path: Path) -> None:
    with pytest.raises(InterpreterError, match="ZeroDivisionError") as failed:
        run("print('so far')\n1 / 0")
    assert failed.value.logs == "so far\n"
    (tmp_path / "secret").write_text("of this machine")
    with pytest.raises(InterpreterError, match="FileNotFoundError"):
        run(f"open({str(tmp_path / 'secret')!r}).read()")
    assert run("40 + 2").output == 42


def test_code_that_takes_too_long_is_stopped() -> None:
    with LocalPythonExecutor([], timeout_seconds=0.3) as run:
        with pytest.raises(ExecutionTimeoutError, match=r"exceeded the maximum execution time of 0\.3 seconds"):
            run("while True: pass")
        assert run("1 + 1").output == 2


def test_an_executor_begins_anew_after_it_was_ended(run: LocalPythonExecutor) -> None:
    run("x = 1")
    run.cleanup()
    run.cleanup()
    with pytest.raises(InterpreterError, match="x"):
        run("x")
