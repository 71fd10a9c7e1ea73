"""What users, their functions and their stores do wrong: a clear error, nothing lost, nothing else broken."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from wherry import CodeAgent, FunctionModel, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ConfigurationError, ModelError, StoreError
from wherry.journal import EventType, read_events, verify
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.store import Store


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def snippet(code: str) -> str:
    return f"```python\n{code}\n```"


def called(name: str, **arguments: Any) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("c", name, arguments)])


def events(store: Store, run_id: str, kind: EventType) -> list[dict[str, Any]]:
    return [dict(event.payload) for event in read_events(store, run_id) if event.type is kind]


def test_a_check_that_exits_refuses_and_the_next_run_works(store: Store) -> None:
    def leave(answer: object) -> bool:
        if answer == "first":
            sys.exit(3)
        return True

    agent = ToolCallingAgent(
        model=ScriptedModel(["first", "second", "third"]), store=store, final_answer_checks=[leave]
    )
    assert agent.run("go").output == "second"
    assert agent.run("again").output == "third"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_tool_that_raises_an_exit_tells_the_model(store: Store, kind: type[BaseException]) -> None:
    @tool
    async def leave() -> str:
        """Raises."""
        raise kind("bye")

    agent = ToolCallingAgent([leave], ScriptedModel([called("leave"), "done"]), store=store)
    assert agent.run("go").output == "done"


class NoExceptionError(BaseException):
    """As the failures of pytest."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, NoExceptionError])
def test_a_model_that_raises_an_exit_ends_its_own_run_only(store: Store, kind: type[BaseException]) -> None:
    def leave(request: ModelRequest) -> str:
        raise kind("bye")

    with pytest.raises(kind, match="bye"):
        ToolCallingAgent((), FunctionModel(leave), store=store).run("go")
    assert ToolCallingAgent((), ScriptedModel(["done"]), store=store).run("go").output == "done"


def test_a_tool_that_cancels_itself_tells_the_model(store: Store) -> None:
    @tool
    async def cancelled() -> str:
        """Awaits a task that it cancelled."""
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
        return ""

    both = ModelReply(tool_calls=[ToolCall("a", "cancelled", {}), ToolCall("b", "cancelled", {})])
    model = ScriptedModel([called("cancelled"), both, "done"])
    result = ToolCallingAgent([cancelled], model, store=store).run("go")
    assert result.output == "done"
    assert all("CancelledError" in m.content for m in model.requests[-1].messages if m.role == "tool")
    assert len(events(store, result.run_id, EventType.TOOL_RETURNED)) == 3


def test_a_delegation_is_durable_before_it_begins(store: Store) -> None:
    seen: list[str] = []

    def look(_: ModelRequest) -> str:
        boss = next(run for run in store.runs() if run.agent == "boss")
        seen.extend(row.type for row in store.events(boss.run_id))
        return "done"

    worker = ToolCallingAgent(model=FunctionModel(look), name="worker", description="Works.")
    model = ScriptedModel([called("worker", task="x"), "done"])
    ToolCallingAgent(model=model, store=store, name="boss", managed_agents=[worker]).run("go")
    assert seen[-1] == "agent.called"


def test_a_delegation_that_never_began_is_recorded(store: Store) -> None:
    worker = ToolCallingAgent(name="worker", description="Works.")
    model = ScriptedModel([called("worker", query="x"), "done"])
    result = ToolCallingAgent(model=model, store=store, managed_agents=[worker]).run("go")
    assert [e["ok"] for e in events(store, result.run_id, EventType.TOOL_RETURNED)] == [False]
    assert events(store, result.run_id, EventType.AGENT_CALLED) == []


def test_a_text_cut_at_max_output_is_no_answer(store: Store) -> None:
    replies = [ModelReply("The answer is 12", finish_reason="length"), "123"]
    assert ToolCallingAgent(model=ScriptedModel(replies), store=store).run("go").output == "123"


def test_results_handed_into_a_snippet_are_kept_whole(store: Store) -> None:
    @tool
    def rows() -> list[str]:
        """Many rows."""
        return ["row"] * 100_000

    agent = CodeAgent([rows], ScriptedModel([snippet("final_answer(len(rows()))")]), store=store)
    result = agent.run("go")
    assert result.output == 100_000
    (returned,) = events(store, result.run_id, EventType.TOOL_RETURNED)
    assert store.artifacts.info(returned["ref"]).bytes == 600_001


def test_standard_error_is_shown(store: Store) -> None:
    model = ScriptedModel([snippet("import sys\nprint('oh no', file=sys.stderr)"), snippet("final_answer(1)")])
    CodeAgent(model=model, store=store).run("go")
    assert "oh no" in model.requests[-1].messages[-1].content


def test_a_second_run_in_a_session_under_way_is_refused(store: Store) -> None:
    async def main() -> None:
        inside, leave = anyio.Event(), anyio.Event()

        async def slow(_: ModelRequest) -> str:
            inside.set()
            await leave.wait()
            return "done"

        agent = ToolCallingAgent(model=FunctionModel(slow), store=store)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: agent.arun("one", session="s"))
            await inside.wait()
            with pytest.raises(ConfigurationError, match="run under way"):
                await agent.arun("two", session="s")
            leave.set()
        assert (await agent.arun("three", session="s")).output == "done"

    anyio.run(main)
    assert len(store.runs()) == 2


@pytest.mark.parametrize(
    ("inputs", "match"), [({"big": "x" * 8_000_000}, "8,000,002 bytes"), ({"t": 5}, "name of a tool")]
)
def test_inputs_that_cannot_be_are_refused_before_the_model_is_asked(
    store: Store, inputs: dict[str, Any], match: str
) -> None:
    @tool
    def t() -> str:
        """A tool."""
        return ""

    model = ScriptedModel(["never"])
    with pytest.raises(ConfigurationError, match=match):
        CodeAgent([t], model, store=store).run("go", inputs=inputs)
    assert model.requests == []
    assert store.runs() == []


def test_a_tool_calling_agent_takes_no_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigurationError, match="files"):
        ToolCallingAgent(model=ScriptedModel([]), store=store).run("go", files=[tmp_path / "a.txt"])


def test_what_a_users_model_raises_is_a_model_error(store: Store) -> None:
    def broken(_: ModelRequest) -> str:
        raise KeyError("gone")

    with pytest.raises(ModelError, match="KeyError") as caught:
        ToolCallingAgent(model=FunctionModel(broken), store=store).run("go")
    assert caught.value.run_id is not None
    assert len(events(store, caught.value.run_id, EventType.MODEL_FAILED)) == 1


@pytest.mark.slow
def test_the_error_names_the_run_that_was_started(store: Store) -> None:
    worker = ToolCallingAgent(
        model=ScriptedModel([ModelError("gone", kind="ConnectionLost")]), name="worker", description="Works."
    )
    model = ScriptedModel([called("worker", task="x")])
    with pytest.raises(ModelError) as caught:
        ToolCallingAgent(model=model, store=store, name="boss", managed_agents=[worker]).run("go")
    (top,) = store.runs()
    assert caught.value.run_id == top.run_id
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis["failed_run"] != top.run_id


def test_a_store_that_breaks_at_the_end_fails_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(session: str, state: bytes, **rest: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "save_session", full)
    with pytest.raises(StoreError, match="disk is full") as caught:
        ToolCallingAgent(model=ScriptedModel(["done"]), store=store).run("go", session="s")
    (run,) = store.runs()
    assert (run.run_id, run.status) == (caught.value.run_id, RunStatus.FAILED)
    assert verify(store, run.run_id) is None


def test_a_check_may_itself_run_an_agent(store: Store) -> None:
    judge = ToolCallingAgent(model=ScriptedModel(["good"]), store=store)

    def judged(answer: object) -> bool:
        return judge.run(f"Is {answer} good?").output == "good"

    agent = ToolCallingAgent(model=ScriptedModel(["x"]), store=store, final_answer_checks=[judged])
    assert agent.run("go").output == "x"


def test_a_check_of_two_parameters_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="answer alone"):
        ToolCallingAgent(final_answer_checks=[lambda answer, memory: True])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "options",
    [
        {"model": 5},
        {"model": ScriptedModel},
        {"context": 8192},
        {"store": Path("x")},
        {"max_steps": "3"},
        {"max_steps": 2.5},
        {"managed_agents": [len]},
        {"final_answer_checks": [5]},
        {"output_type": "no such type"},
    ],
)
def test_wrong_arguments_are_said_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ToolCallingAgent(**options)


@pytest.mark.parametrize(
    "order", [{"task": None}, {"task": "x", "session": 5}, {"task": "x", "files": "/etc/hostname"}]
)
def test_wrong_arguments_are_said_at_the_run(order: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ToolCallingAgent(model=ScriptedModel([])).run(**order)


def test_a_sessions_answer_is_kept_once(store: Store) -> None:
    model = ScriptedModel(["first answer", "second"])
    agent = ToolCallingAgent(model=model, store=store)
    agent.run("one", session="s")
    agent.run("two", session="s")
    assert [(m.role, m.content) for m in model.requests[-1].messages[1:]] == [
        ("user", "one"),
        ("assistant", "first answer"),
        ("user", "two"),
    ]


def test_users_messages_never_follow_one_another(store: Store) -> None:
    model = ScriptedModel([snippet("final_answer(-1)"), snippet("final_answer(1)")])
    CodeAgent(model=model, store=store, final_answer_checks=[lambda answer: answer > 0]).run("go")
    roles = [m.role for m in model.requests[-1].messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert isinstance(model.requests[-1].messages[-1], Message)


@pytest.mark.parametrize("depth", [101, 900, 5_000])
def test_arguments_nested_too_deeply_are_refused_and_the_run_goes_on(store: Store, depth: int) -> None:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    calls = [ToolCall("c", "final_answer", {"answer": deep}), ToolCall("d", "final_answer", {"answer": "flat"})]
    model = ScriptedModel([ModelReply(tool_calls=[one]) for one in calls])
    assert ToolCallingAgent(model=model, store=store).run("x").output == "flat"
    assert "nested deeper than 100" in model.requests[-1].messages[-1].content
    while deep:  # a garbage collector of a few versions recurses
        deep = deep.pop()
