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


@pytest.mark.slow
def test_a_huge_tool_result_comes_as_a_handle(store: Store) -> None:
    @tool
    def megabytes() -> str:
        """A large text."""
        return "x" * 50_000_000

    agent = agent_of([snippet("r = megabytes()\nfinal_answer(r['bytes'])")], store, tools=[megabytes])
    assert agent.run("go").output == 50_000_002


@pytest.mark.slow
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


KILLER = "import itertools\n-1 in itertools.count()"


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets get a second instead of thirty."""
    from wherry.sandbox import SandboxLimits, selection

    real = selection.get_sandbox

    def shorter(name: str = "auto", *, packages: Sequence[str] = ()) -> Any:
        return real(name, limits=SandboxLimits(wall_seconds=1), packages=packages)

    monkeypatch.setattr("wherry.agents.code_agent.get_sandbox", shorter)


@pytest.mark.slow
@pytest.mark.usefixtures("short_limits")
def test_a_snippet_that_must_be_killed_costs_only_what_it_did_itself(store: Store) -> None:
    called: list[int] = []

    @tool
    def count(n: int) -> int:
        """Counts.

        Args:
            n: a number
        """
        called.append(n)
        return len(called)

    replies = [
        snippet("import random\na = count(1)\nchance = random.random()\nopen('made.txt', 'w').write('made')"),
        snippet("try:\n    count('many')\nexcept ToolError:\n    b = count(2)\nprint(chance)"),
        snippet(f"a = 'changed'\n{KILLER}"),
        snippet("print(chance)\nfinal_answer([a, b, open('made.txt').read()])"),
    ]
    agent = agent_of(replies, store, tools=[count])
    result = agent.run("go")
    assert result.output == [1, 2, "made"]
    assert called == [1, 2]
    model = agent.model
    assert isinstance(model, ScriptedModel)
    told = model.requests[3].messages[-1].content
    assert "limit of 1 s" in told
    assert "the variables and files of the earlier ones are back" in told
    outputs = [
        event.payload["stdout"] for event in read_events(store, result.run_id) if event.type is EventType.CODE_FINISHED
    ]
    assert outputs[1] == outputs[3]
    assert any("run again" in warning for warning in result.warnings)
    assert [file.name for file in result.files] == ["made.txt"]


@pytest.mark.slow
@pytest.mark.usefixtures("short_limits")
def test_what_cannot_be_rebuilt_is_told(store: Store) -> None:
    @tool
    def echo(text: str) -> str:
        """Says it again.

        Args:
            text: a text
        """
        return text

    replies = [
        snippet("odd = open('/dev/urandom', 'rb').read(16).hex()\nprint(echo(odd))"),  # not covered by the seed
        snippet(KILLER),
        snippet("try:\n    odd\nexcept NameError:\n    final_answer('gone')"),
    ]
    agent = agent_of(replies, store, tools=[echo])
    assert agent.run("go").output == "gone"
    assert "all variables and files are gone" in last_message(agent)
    assert "had other arguments" in last_message(agent)


@pytest.mark.slow
@pytest.mark.usefixtures("short_limits")
def test_a_managed_agent_is_not_asked_again_when_a_session_is_rebuilt(store: Store) -> None:
    helper = CodeAgent(
        (), ScriptedModel([snippet("final_answer({'found': 7})")]), name="helper", description="Finds.", store=store
    )
    replies = [snippet("found = helper('find it')['found']"), snippet(KILLER), snippet("final_answer(found)")]
    result = agent_of(replies, store, tools=[], managed_agents=[helper]).run("go")
    assert result.output == 7
    assert isinstance(helper.model, ScriptedModel)
    assert len(helper.model.requests) == 1


def test_files_are_kept_and_told(store: Store) -> None:
    png = "b'\\x89PNG\\r\\n\\x1a\\n' + bytes(9)"
    replies = [
        snippet(f"open('plot.png', 'wb').write({png})\nopen('rows.csv', 'w').write('a,b')"),
        snippet("open('rows.csv', 'a').write('!')\nfinal_answer('see the files')"),
    ]
    agent = agent_of(replies, store)
    result = agent.run("plot")
    assert [(file.name, file.bytes, file.media_type) for file in result.files] == [
        ("plot.png", 17, "image/png"),
        ("rows.csv", 4, "text/csv"),
    ]
    assert store.artifacts.read(result.files[1].ref) == b"a,b!"
    assert store.artifacts.info(result.files[0].ref).media_type == "image/png"
    assert f"plot.png (17 bytes, artifact {result.files[0].ref})" in last_message(agent)
    finished = [event for event in read_events(store, result.run_id) if event.type is EventType.CODE_FINISHED]
    assert [[file["name"] for file in event.payload["files"]] for event in finished] == [
        ["plot.png", "rows.csv"],
        ["rows.csv"],
    ]


def test_values_cross_as_what_they_are(store: Store) -> None:
    import datetime
    import decimal
    import uuid
    from dataclasses import dataclass

    from pydantic import BaseModel

    @dataclass
    class Point:
        x: int
        y: float

    class Person(BaseModel):
        name: str
        born: datetime.date

    made = {
        "bytes": b"\x00\xff",
        "set": {1, 2},
        "tuple": (1, (2, 3)),
        "keys": {1: "a", (2, 3): "b"},
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.10"),
        "id": uuid.UUID(int=7),
        "nan": float("inf"),
        "large": 2**200,
        "point": Point(1, 2.5),
        "person": Person(name="Ada", born=datetime.date(1815, 12, 10)),
    }

    @tool
    def give() -> dict[str, Any]:
        """Gives all kinds."""
        return made

    code = """
v = give()
assert type(v['bytes']) is bytes and type(v['set']) is set and v['tuple'] == (1, (2, 3)) and v['keys'][2, 3] == 'b'
assert v['when'].tzinfo and v['price'] + 1 == v['price'].__class__('2.10') and v['id'].int == 7 and v['large'] == 2**200
assert v['point'] == {'x': 1, 'y': 2.5} and v['person']['born'].year == 1815
final_answer(v)
"""
    agent = agent_of([snippet(code), snippet("0")], store, tools=[give], max_steps=1)
    result = agent.run("go")
    assert result.status is RunStatus.COMPLETED, last_message(agent)
    assert result.output == {
        **made,
        "tuple": [1, [2, 3]],
        "point": {"x": 1, "y": 2.5},
        "person": {"name": "Ada", "born": datetime.date(1815, 12, 10)},
    }


def test_a_tool_gets_bytes_dates_and_sets_from_a_snippet(store: Store) -> None:
    import datetime

    got: list[Any] = []

    @tool
    def keep(data: bytes, day: datetime.date, names: set[str], rows: list[int]) -> str:
        """Keeps.

        Args:
            data: some bytes
            day: a day
            names: names
            rows: numbers
        """
        got.extend([data, day, names, rows])
        return "kept"

    code = "import datetime\nfinal_answer(keep(b'\\x01', datetime.date(2026, 1, 2), {'a'}, (n for n in range(3))))"
    assert agent_of([snippet(code)], store, tools=[keep]).run("go").output == "kept"
    assert got == [b"\x01", datetime.date(2026, 1, 2), {"a"}, [0, 1, 2]]


def test_a_model_that_repeats_itself_is_reminded_of_the_answer(store: Store) -> None:
    agent = agent_of([snippet("x = 6 * 7\nx")] * 2 + [snippet("final_answer(x)")], store)
    agent.run("go")
    assert "same code as before" in last_message(agent)
    agent = agent_of([snippet("x = 1"), snippet("final_answer(x)")], store, max_steps=2)
    agent.run("go")
    assert "One step is left. Call final_answer(value)" in last_message(agent)


def test_an_array_is_previewed_and_goes_in_as_what_the_sandbox_has(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    agent = agent_of([snippet("final_answer([len(table), table[1]])")], store)  # without numpy: lists
    assert agent.run("look", inputs={"table": numpy.arange(30_000).reshape(10_000, 3)}).output == [10_000, [3, 4, 5]]
    assert "table: array of shape (10000, 3), dtype int64, first values: 0, 1, 2" in last_message(agent, 0)
    assert len(last_message(agent, 0)) < 500


@pytest.mark.slow
def test_arrays_in_answers_are_lists_if_small_and_artifacts_if_not(store: Store) -> None:
    import io

    numpy = pytest.importorskip("numpy")
    from wherry.errors import SandboxUnavailable

    @tool
    def total(rows: list[dict[str, float]], numbers: list[float]) -> float:
        """Adds up.

        Args:
            rows: rows with a column n
            numbers: more of them
        """
        return sum(row["n"] for row in rows) + sum(numbers)

    code = """
import numpy as np, pandas as pd
frame = pd.DataFrame({'n': [1.5, 2.5]})
final_answer({'sum': total(frame, np.array([1, 2])), 'few': frame, 'many': np.arange(5000.0), 'one': np.int64(3)})
"""
    try:
        agent = agent_of([snippet(code)] * 2, store, tools=[total], authorized_imports=("numpy", "pandas"), max_steps=1)
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    output = agent.run("go").output
    assert (output["sum"], output["few"], output["one"]) == (7.0, [{"n": 1.5}, {"n": 2.5}], 3)
    kept = output["many"]
    assert kept["media_type"] == "application/x-npy"
    assert kept["head"].startswith("array of shape (5000,), dtype float64")
    loaded = numpy.load(io.BytesIO(store.artifacts.read(kept["artifact"])), allow_pickle=False)
    assert loaded.sum() == sum(range(5000))
