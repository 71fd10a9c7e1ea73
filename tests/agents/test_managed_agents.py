"""Teams: a manager and its specialists."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from wherry import CodeAgent, FunctionModel, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.agents import Agent
from wherry.errors import ConfigurationError, ModelError
from wherry.journal import EventType, read_events
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.store import Store


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def snippet(code: str) -> str:
    return f"```python\n{code}\n```"


def echo(request: ModelRequest) -> str:
    """Answers with the task it was given."""
    return f"did: {next(m.content for m in request.messages if m.role == 'user')}"


def specialist(name: str = "worker", model: Any = None, **options: Any) -> Agent:
    return ToolCallingAgent(model=model or FunctionModel(echo), name=name, description="Does things.", **options)


def test_a_code_manager_calls_specialists_as_functions(store: Store) -> None:
    code = "a = alice(task='one')\nb = bob('two')\nfinal_answer([a, b])"
    manager = CodeAgent(
        model=ScriptedModel([snippet(code)]), store=store, managed_agents=[specialist("alice"), specialist("bob")]
    )
    result = manager.run("both")
    assert result.output == ["did: one", "did: two"]
    assert result.usage.requests == 3
    called = [e.payload for e in read_events(store, result.run_id) if e.type is EventType.AGENT_CALLED]
    assert [c["name"] for c in called] == ["alice", "bob"]
    child = list(read_events(store, called[0]["run_id"]))
    assert child[0].parent_run_id == result.run_id
    assert child[-1].payload["status"] == "completed"


def test_the_same_specialist_called_in_parallel_gives_each_its_own_answer(store: Store) -> None:
    together = anyio.Event()
    waiting = 0

    async def wait_for_all(request: ModelRequest) -> str:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            together.set()
        await together.wait()
        return echo(request)

    reply = ModelReply(tool_calls=[ToolCall(f"c{n}", "worker", {"task": f"job {n}"}) for n in range(3)])
    model = ScriptedModel([reply, "done"])
    manager = ToolCallingAgent(model=model, store=store, managed_agents=[specialist(model=FunctionModel(wait_for_all))])

    async def main() -> None:
        with anyio.fail_after(20):
            await manager.arun("all")

    anyio.run(main)
    answers = [m.content for m in model.requests[-1].messages if m.role == "tool"]
    assert answers == ["did: job 0", "did: job 1", "did: job 2"]


def test_a_specialists_conversation_stays_with_it(store: Store) -> None:
    secret = "the long way to the answer"
    worker = specialist(model=ScriptedModel([ModelReply(secret, tool_calls=[ToolCall("c", "gone", {})]), "42"]))
    model = ScriptedModel([snippet("print(worker('x'))"), snippet("final_answer(1)")])
    CodeAgent(model=model, store=store, managed_agents=[worker]).run("go")
    seen = "".join(m.content for m in model.requests[-1].messages)
    assert "42" in seen
    assert secret not in seen


def test_an_unfinished_specialist_says_so(store: Store) -> None:
    worker = specialist(
        model=ScriptedModel([ModelReply(tool_calls=[ToolCall("c", "gone", {})]), "nearly"]), max_steps=1
    )
    manager = CodeAgent(
        model=ScriptedModel([snippet("final_answer(worker('x'))")]), store=store, managed_agents=[worker]
    )
    assert manager.run("go").output == "[not finished: max_steps] nearly"


def test_a_failing_backend_ends_the_whole_tree(store: Store) -> None:
    worker = specialist(model=ScriptedModel([ModelError("wrong key", kind="Authentication")]))
    code = snippet("try:\n    worker('x')\nexcept BaseException:\n    pass\nfinal_answer('hidden')")
    manager = CodeAgent(model=ScriptedModel([code]), store=store, managed_agents=[worker])
    with pytest.raises(ModelError, match="wrong key"):
        manager.run("go")


def test_managed_agents_change_at_run_time(store: Store) -> None:
    manager = CodeAgent(store=store)

    def hire(_: ModelRequest) -> str:
        manager.managed_agents["late"] = specialist("late")
        return snippet("1")

    manager.model = ScriptedModel([hire, snippet("final_answer(late('x'))")])
    assert manager.run("go").output == "did: x"


@pytest.mark.parametrize("missing", ["name", "description"])
def test_a_managed_agent_needs_a_name_and_a_description(missing: str) -> None:
    names = {"name": "worker", "description": "Works."}
    del names[missing]
    with pytest.raises(ConfigurationError, match=f"has no {missing}"):
        CodeAgent(managed_agents=[ToolCallingAgent(**names)])  # type: ignore[arg-type]


def test_names_must_differ(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="worker"):
        CodeAgent(managed_agents=[specialist(), specialist()])

    @tool
    def worker() -> str:
        """A tool of the same name."""
        return ""

    manager = CodeAgent([worker], ScriptedModel(["x"]), store=store, managed_agents=[specialist()])
    with pytest.raises(ConfigurationError, match="worker"):
        manager.run("go")


def test_a_manager_lends_its_model_to_a_specialist_without_one(store: Store) -> None:
    worker = ToolCallingAgent(name="worker", description="Works.")
    model = ScriptedModel([snippet("final_answer(worker('x'))"), "lent"])
    assert CodeAgent(model=model, store=store, managed_agents=[worker]).run("go").output == "lent"


def test_cancelling_stops_the_whole_tree(store: Store) -> None:
    started = anyio.Event()

    async def hang(_: ModelRequest) -> str:
        started.set()
        await anyio.sleep_forever()
        return ""

    manager = CodeAgent(
        model=ScriptedModel([snippet("worker('x')")]),
        store=store,
        managed_agents=[specialist(model=FunctionModel(hang))],
    )
    run_ids: list[str] = []

    async def main() -> None:
        async def stop() -> None:
            await started.wait()
            assert manager.cancel(run_ids[0])

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            with anyio.fail_after(20):
                run_ids.extend([""])
                async for event in manager.astream("go"):
                    run_ids[0] = run_ids[0] or event.run_id

    anyio.run(main)
    runs = store.runs(children=True)
    assert {run.status for run in runs} == {RunStatus.CANCELLED}
    assert len(runs) == 2


def test_cancelling_a_run_that_is_not_under_way_says_so() -> None:
    assert not ToolCallingAgent(model=ScriptedModel([])).cancel("nothing")
