"""What a journal has of a run's snippets, to make their session again."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from wherry import CodeAgent, ScriptedModel, open_store, tool
from wherry.agents.recorded_code import recorded_code
from wherry.errors import RebuildError
from wherry.sandbox import Answers, Conditions, Execution, get_sandbox, rebuild
from wherry.sandbox.values import restore
from wherry.store import Store


def snippet(code: str) -> str:
    return f"```python\n{code}\n```"


@tool
def count(n: int) -> dict[int, set[str]]:
    """Counts.

    Args:
        n: a number
    """
    if n < 0:
        raise ValueError("too few")
    return {n: {str(n)}}


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def run_of(store: Store, *codes: str) -> str:
    agent = CodeAgent([count], ScriptedModel([*map(snippet, codes), snippet("final_answer(0)")]), store=store)
    return agent.run("go").run_id


def test_calls_results_errors_and_refusals_are_read_back(store: Store) -> None:
    run_id = run_of(
        store,
        "a = count(1)\nb = []\n"
        "for bad in (-1, 'x'):\n    try: count(bad)\n    except ToolError as e: b.append(str(e))\n"
        "try: count(1, 2, 3)\nexcept ToolError as e: b.append(str(e))",
    )
    code = recorded_code(store, run_id)
    assert code.unfinished is None
    first = code.finished[0]
    assert [call.name for call in first.calls] == ["count"] * 4
    assert restore(first.calls[0].value.tree) == {1: {"1"}}
    assert first.calls[0].arguments == {"n": 1}
    assert "too few" in str(first.calls[1].error)
    assert "integer" in str(first.calls[2].error)
    assert "takes 1 arguments" in str(first.calls[3].error)


def test_a_session_is_made_again_from_the_journal_alone(store: Store) -> None:
    run_id = run_of(
        store, "import random\na = count(1)\nluck = random.random()", "c = [count(n) for n in (2, 3)]\n1 / 0"
    )

    async def main() -> Execution:
        session = await get_sandbox().open(tools=["count"])
        recorded = recorded_code(store, run_id)
        made = await rebuild(session, recorded.finished)
        assert made.snippets == 3

        async def never(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
            raise AssertionError

        done = await session.run("[a, c]", call_tool=never)
        await session.close()
        return done

    assert anyio.run(main).value == [{1: {"1"}}, [{2: {"2"}}, {3: {"3"}}]]


def test_large_results_are_read_back_from_their_artifacts(store: Store) -> None:
    @tool
    def large(size: int) -> str:
        """A large text.

        Args:
            size: its length
        """
        return "é" * size

    code = "few, many = large(100_000), large(5_000_000)"
    agent = CodeAgent([large], ScriptedModel([snippet(code), snippet("final_answer(many['bytes'])")]), store=store)
    result = agent.run("go")
    calls = recorded_code(store, result.run_id).finished[0].calls
    assert restore(calls[0].value.tree) == "é" * 100_000
    assert restore(calls[1].value.tree)["bytes"] == result.output


def test_a_snippet_that_was_cut_short_goes_on_where_it_was(store: Store) -> None:
    started = anyio.Event()

    @tool
    async def slow(n: int) -> int:
        """Slow, the second time.

        Args:
            n: a number
        """
        if n == 2:
            started.set()
            await anyio.sleep_forever()
        return n

    agent = CodeAgent([slow], ScriptedModel([snippet("x = 1"), snippet("print(slow(1) + slow(2))")]), store=store)

    async def main() -> Execution:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: agent.arun("go"))
            await started.wait()
            group.cancel_scope.cancel()
        (row,) = store.runs()
        code = recorded_code(store, row.run_id)
        assert len(code.finished) == 1
        assert code.unfinished is not None
        assert code.unanswered is not None
        assert code.unanswered["arguments"] == {"n": 2}

        async def live(name: str, args: list[Any], kwargs: dict[str, Any]) -> int:
            return 41

        session = await get_sandbox().open(tools=["slow"])
        await rebuild(session, code.finished)
        answers = Answers(code.unfinished.calls, then=live)
        done = await session.run(
            code.unfinished.code, call_tool=answers, conditions=Conditions(code.unfinished.conditions.seed)
        )
        await session.close()
        return done

    assert anyio.run(main).stdout == "42\n"


def test_records_that_are_gone_are_said(store: Store) -> None:
    with pytest.raises(RebuildError, match="cannot be read"):
        recorded_code(store, "01J00000000000000000000000")
