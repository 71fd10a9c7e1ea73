"""A code agent, from a scripted model's replies to events and result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from wherry import CodeAgent, ContextBudget, RunStatus, ScriptedModel, Tool, open_store, tool
from wherry.errors import ConfigurationError, ModelError, WherryError
from wherry.journal import Event, EventType, messages_of_request, read_events, verify
from wherry.models import ModelReply
from wherry.store import Store


def snippet(code: str) -> str:
    return f"```python\n{code}\n```"


@tool
def double(n: int) -> int:
    """Twice a number.

    Args:
        n: the number
    """
    return 2 * n


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def agent_of(replies: Sequence[Any], store: Store, **options: Any) -> CodeAgent:
    return CodeAgent(options.pop("tools", [double]), ScriptedModel(list(replies)), store=store, **options)


def last_message(agent: CodeAgent, request: int = -1) -> str:
    model = agent.model
    assert isinstance(model, ScriptedModel)
    return model.requests[request].messages[-1].content


def test_final_answer_ends_the_run(store: Store) -> None:
    result = agent_of([snippet("final_answer(double(n=21))")], store).run("What is twice 21?")
    assert (result.output, result.status, result.steps) == (42, RunStatus.COMPLETED, 1)
    assert result.usage.requests == 1
    assert result.usage.tool_calls == 1
    assert str(result) == "42"


def test_variables_persist_between_steps_and_not_between_runs(store: Store) -> None:
    agent = agent_of(
        [snippet("x = 5"), snippet("final_answer(x + 1)"), snippet("x"), snippet("final_answer(0)")], store
    )
    assert agent.run("first").output == 6
    agent.run("second")
    assert "NameError" in last_message(agent)


def test_printed_output_is_shown(store: Store) -> None:
    agent = agent_of([snippet("print('seen', 1 + 1)"), snippet("final_answer('done')")], store)
    agent.run("look")
    assert "seen 2" in last_message(agent)


def test_failing_code_is_shown_with_its_line(store: Store) -> None:
    agent = agent_of([snippet("a = 1\nb = a / 0"), snippet("final_answer('mended')")], store)
    assert agent.run("divide").output == "mended"
    assert "ZeroDivisionError" in last_message(agent)
    assert "b = a / 0" in last_message(agent)


@pytest.mark.parametrize(
    "reply",
    ["", "I do not know.", "```python\n```", ModelReply("```python\nprint('x", finish_reason="length")],
    ids=["empty", "no code", "empty block", "cut off"],
)
def test_a_reply_without_code_is_answered_and_the_run_goes_on(store: Store, reply: str | ModelReply) -> None:
    agent = agent_of([reply, snippet("final_answer(1)")], store)
    assert agent.run("go").output == 1
    assert "```python" in last_message(agent)


def test_ten_empty_replies_in_a_row_are_survived(store: Store) -> None:
    assert agent_of([""] * 10 + [snippet("final_answer(1)")], store).run("go").steps == 11


def test_two_code_blocks_run_in_order(store: Store) -> None:
    reply = f"First\n{snippet('x = 2')}\nthen\n{snippet('final_answer(x)')}"
    assert agent_of([reply], store).run("go").output == 2


def test_final_answer_is_not_caught_by_except(store: Store) -> None:
    code = "try:\n    final_answer(1)\nexcept BaseException:\n    pass\nfinal_answer(2)"
    assert agent_of([snippet(code)], store).run("go").output == 1


def test_a_tools_error_is_an_exception_in_the_snippet(store: Store) -> None:
    @tool
    def failing(n: int) -> int:
        """Always fails.

        Args:
            n: a number
        """
        raise ValueError(f"cannot do {n}")

    code = "try:\n    failing(3)\nexcept Exception as e:\n    final_answer(str(e))"
    assert "cannot do 3" in str(agent_of([snippet(code)], store, tools=[failing]).run("go").output)


def test_wrong_arguments_are_refused_before_the_call(store: Store) -> None:
    agent = agent_of([snippet("double(n='many')"), snippet("final_answer(0)")], store)
    agent.run("go")
    assert "n" in last_message(agent)
    assert "integer" in last_message(agent)


def test_tools_are_read_anew_at_every_step(store: Store) -> None:
    agent = agent_of([], store)

    def swap(_: object) -> str:
        @tool
        def triple(n: int) -> int:
            """Three times a number.

            Args:
                n: the number
            """
            return 3 * n

        agent.tools["triple"] = triple
        del agent.tools["double"]
        return snippet("print('changed')")

    agent.model = ScriptedModel([swap, snippet("final_answer(triple(3))")])
    result = agent.run("go")
    assert result.output == 9
    changed = [e for e in read_events(store, result.run_id) if e.type is EventType.TOOLS_CHANGED]
    assert [(e.payload["added"], e.payload["removed"]) for e in changed] == [(["triple"], ["double"])]


def test_a_plain_function_may_be_put_into_the_tools(store: Store) -> None:
    def triple(n: int) -> int:
        """Three times a number."""
        return 3 * n

    agent = agent_of([snippet("final_answer(triple(3))")], store)
    agent.tools["triple"] = triple  # type: ignore[assignment]  # what users do: the dict takes whatever is a tool
    assert agent.run("go").output == 9


def test_max_steps_asks_for_a_last_word(store: Store) -> None:
    agent = agent_of([snippet("1"), snippet("2"), "It is about 3."], store, max_steps=2)
    result = agent.run("go")
    assert (result.output, result.status, result.steps) == ("It is about 3.", RunStatus.MAX_STEPS, 2)
    model = agent.model
    assert isinstance(model, ScriptedModel)
    assert len(model.requests) == 3


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_is_refused(store: Store, steps: int) -> None:
    with pytest.raises(ConfigurationError, match="max_steps"):
        agent_of([], store, max_steps=steps)
    with pytest.raises(ConfigurationError, match="max_steps"):
        agent_of([], store).run("go", max_steps=steps)


@pytest.mark.parametrize("task", ["", "  \n"])
def test_an_empty_task_is_refused(store: Store, task: str) -> None:
    with pytest.raises(ConfigurationError, match="task is empty"):
        agent_of([], store).run(task)


def test_a_task_of_five_megabytes_is_previewed(store: Store) -> None:
    agent = agent_of([snippet("final_answer('short')")], store, context=ContextBudget(8192))
    assert agent.run("Summarise: " + "word " * 1_000_000).output == "short"
    model = agent.model
    assert isinstance(model, ScriptedModel)
    assert sum(len(m.content) for m in model.requests[0].messages) < 40_000


def test_output_type_is_validated_and_a_misfit_sent_back(store: Store) -> None:
    agent = agent_of([snippet("final_answer('many')"), snippet("final_answer([1, 2])")], store, output_type=list[int])
    result = agent.run("go")
    assert result.output == [1, 2]
    assert "not accepted" in last_message(agent)


def test_checks_refuse_by_false_text_or_exception(store: Store) -> None:
    def positive(answer: int) -> bool:
        return answer > 0

    def small(answer: int) -> str | None:
        return None if answer < 10 else "it is too large"

    def even(answer: int) -> None:
        if answer % 2:
            raise ValueError("it is odd")

    replies = [snippet(f"final_answer({n})") for n in (-1, 12, 3, 4)]
    agent = agent_of(replies, store, final_answer_checks=[positive, small, even])
    assert agent.run("go").output == 4
    assert "positive" in last_message(agent, 1)
    assert "too large" in last_message(agent, 2)
    assert "odd" in last_message(agent, 3)


def test_inputs_become_variables_and_are_not_pasted(store: Store) -> None:
    agent = agent_of([snippet("final_answer(len(rows))")], store)
    result = agent.run("count", inputs={"rows": list(range(100_000))})
    assert result.output == 100_000
    assert len(last_message(agent, 0)) < 2_000
    assert "rows" in last_message(agent, 0)


def test_files_are_in_the_work_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    agent = agent_of([snippet("final_answer(open('data.csv').read())")], store)
    assert agent.run("read", files=[tmp_path / "data.csv"]).output == "a,b\n1,2\n"


def test_a_missing_file_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.txt"):
        agent_of([], store).run("read", files=[tmp_path / "gone.txt"])


def test_a_huge_tool_result_comes_as_a_handle(store: Store) -> None:
    @tool
    def megabytes() -> str:
        """A large text."""
        return "x" * 50_000_000

    agent = agent_of([snippet("r = megabytes()\nfinal_answer(r['bytes'])")], store, tools=[megabytes])
    assert agent.run("go").output == 50_000_002


def test_a_failing_model_ends_the_run_with_its_id(store: Store) -> None:
    agent = agent_of([snippet("1"), ModelError("the server is gone", kind="ConnectionLost")], store)
    with pytest.raises(ModelError) as caught:
        agent.run("go")
    assert caught.value.run_id is not None
    assert caught.value.diagnosis is not None
    events = list(read_events(store, caught.value.run_id))
    assert events[-1].type is EventType.RUN_FINISHED
    assert events[-1].payload["status"] == "failed"


def test_the_journal_has_every_request_byte_for_byte(store: Store) -> None:
    agent = agent_of([snippet("print(1)"), snippet("print(2)"), snippet("final_answer(3)")], store)
    result = agent.run("go")
    model = agent.model
    assert isinstance(model, ScriptedModel)
    for number, request in enumerate(model.requests, 1):
        assert messages_of_request(store, result.run_id, number) == list(request.messages)
    assert verify(store, result.run_id) is None


def test_events_come_as_they_happen(store: Store) -> None:
    import anyio

    agent = agent_of([snippet("print(double(2))"), snippet("final_answer(3)")], store)
    seen: list[Event] = []

    async def main() -> None:
        async for event in agent.astream("go"):
            seen.append(event)

    anyio.run(main)
    assert [event.type.value for event in seen] == [
        "run.started",
        "model.requested",
        "model.replied",
        "code.started",
        "tool.called",
        "tool.returned",
        "code.finished",
        "model.requested",
        "model.replied",
        "code.started",
        "code.finished",
        "run.finished",
    ]
    assert [event.seq for event in seen] == list(range(1, 13))


def test_a_prime_tool_class_works(store: Store) -> None:
    class Upper(Tool):
        name = "upper"
        description = "Capitals."
        inputs = {"text": {"type": "string", "description": "any text"}}
        output_type = "string"

        def forward(self, text: str) -> str:
            return text.upper()

    assert agent_of([snippet("final_answer(upper('a'))")], store, tools=[Upper()]).run("go").output == "A"


def test_every_error_is_a_wherry_error() -> None:
    with pytest.raises(WherryError, match="sandbox"):
        CodeAgent(sandbox="nonsense")


def test_unsafe_is_said_on_every_run(store: Store) -> None:
    agent = agent_of([snippet("final_answer(1)")], store, sandbox="unsafe")
    result = agent.run("go")
    assert result.output == 1
    assert any("unsafe" in warning for warning in result.warnings)


def test_the_final_answer_may_be_named_answer(store: Store) -> None:
    assert agent_of([snippet("final_answer(answer=3)")], store).run("go").output == 3


def test_a_final_answer_that_is_too_large_is_told_to_the_model(store: Store) -> None:
    agent = agent_of([snippet("final_answer('a' * 9_000_000)"), snippet("final_answer('a part')")], store)
    assert agent.run("go").output == "a part"
    assert "larger than 7 MiB" in last_message(agent)


def test_an_integer_that_cannot_be_passed_is_an_error_in_the_snippet(store: Store) -> None:
    code = "try:\n    double(10**5000)\nexcept Exception as e:\n    final_answer(str(e))"
    assert "bits" in str(agent_of([snippet(code)], store).run("go").output)
