"""A tool-calling agent, from a scripted model's tool calls to results."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from wherry import ContextBudget, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ConfigurationError, StoreError
from wherry.journal import EventType, messages_of_request, read_events
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply
from wherry.models.tool_arguments import parse_arguments
from wherry.store import Store


@tool
def double(n: int) -> int:
    """Twice a number.

    Args:
        n: the number
    """
    return 2 * n


@tool
def failing() -> str:
    """Always fails."""
    raise RuntimeError("out of paper")


def calls(*items: tuple[str, dict[str, Any]]) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(f"c{i}", name, args) for i, (name, args) in enumerate(items)])


def final(answer: Any) -> ModelReply:
    return calls(("final_answer", {"answer": answer}))


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def agent_of(replies: Sequence[Any], store: Store, **options: Any) -> ToolCallingAgent:
    return ToolCallingAgent(
        options.pop("tools", [double, failing]), ScriptedModel(list(replies)), store=store, **options
    )


def requested(agent: ToolCallingAgent, number: int = -1) -> Sequence[Message]:
    model = agent.model
    assert isinstance(model, ScriptedModel)
    return model.requests[number].messages


def results(agent: ToolCallingAgent) -> list[tuple[str | None, str]]:
    return [(m.tool_call_id, m.content) for m in requested(agent) if m.role == "tool"]


def test_a_call_and_an_answer(store: Store) -> None:
    agent = agent_of([calls(("double", {"n": 21})), final("It is 42.")], store)
    result = agent.run("What is twice 21?")
    assert (result.output, result.status, result.steps) == ("It is 42.", RunStatus.COMPLETED, 2)
    assert results(agent) == [("c0", "42")]


def test_text_without_calls_is_the_answer(store: Store) -> None:
    assert agent_of(["Paris"], store).run("Capital of France?").output == "Paris"


def test_parallel_calls_give_results_in_call_order_and_one_failure_loses_nothing(store: Store) -> None:
    reply = calls(("double", {"n": 1}), ("failing", {}), ("double", {"n": 3}), ("gone", {}))
    agent = agent_of([reply, final("ok")], store)
    agent.run("go")
    (a, b, c, d) = results(agent)
    assert (a, c) == (("c0", "2"), ("c2", "6"))
    assert b[0] == "c1"
    assert "out of paper" in b[1]
    assert "no tool 'gone'" in d[1]


def test_parallel_calls_run_at_the_same_time(store: Store) -> None:
    barrier = threading.Barrier(3)

    @tool
    def meet(n: int) -> int:
        """Wait for the others.

        Args:
            n: the number
        """
        barrier.wait(timeout=10)
        return n

    agent = agent_of([calls(*(("meet", {"n": n}) for n in range(3))), final("met")], store, tools=[meet])
    agent.run("go")
    assert [text for _, text in results(agent)] == ["0", "1", "2"]


def test_broken_json_in_arguments_is_told_to_the_model(store: Store) -> None:
    broken = ModelReply(tool_calls=[ToolCall("x", "double", parse_arguments('{"n": 3'))])
    agent = agent_of([broken, final("ok")], store)
    agent.run("go")
    assert results(agent)[0][1].startswith("Error: ")


def test_wrong_arguments_never_reach_the_tool(store: Store) -> None:
    agent = agent_of([calls(("double", {"n": "many"}), ("double", {"m": 3})), final("ok")], store)
    result = agent.run("go")
    assert all(text.startswith("Error: ") for _, text in results(agent))
    returned = [e.payload["ok"] for e in read_events(store, result.run_id) if e.type is EventType.TOOL_RETURNED]
    assert returned == [False, False]


def test_calls_without_ids_get_some(store: Store) -> None:
    reply = ModelReply(tool_calls=[ToolCall("", "double", {"n": 1}), ToolCall("", "double", {"n": 2})])
    agent = agent_of([reply, final("ok")], store)
    agent.run("go")
    ids = [call_id for call_id, _ in results(agent)]
    assert len(set(ids)) == 2
    assert all(ids)


def test_ten_empty_replies_in_a_row_are_survived(store: Store) -> None:
    assert agent_of([ModelReply("")] * 10 + ["done"], store).run("go").steps == 11


def test_a_huge_result_is_previewed_and_can_be_read(store: Store) -> None:
    @tool
    def report() -> str:
        """A large text."""
        return "".join(f"line {n}\n" for n in range(1_000_000))

    agent = agent_of([calls(("report", {})), final("read")], store, tools=[report], context=ContextBudget(8192))
    result = agent.run("go")
    assert len(results(agent)[0][1]) < 10_000
    (offloaded,) = [e for e in read_events(store, result.run_id) if e.type is EventType.CONTEXT_OFFLOADED]
    assert offloaded.payload["ref"] in results(agent)[0][1]
    agent.model = ScriptedModel(
        [calls(("read_artifact", {"ref": offloaded.payload["ref"], "offset": 500_000, "limit": 200})), final("read")]
    )
    agent.run("again")
    assert "line " in results(agent)[0][1]


def test_output_type_shapes_the_final_answer_tool(store: Store) -> None:
    agent = agent_of([final("many"), final(3)], store, output_type=int)
    assert agent.run("go").output == 3
    model = agent.model
    assert isinstance(model, ScriptedModel)
    schema = next(t for t in model.requests[0].tools if t.name == "final_answer")
    assert schema.parameters["properties"]["answer"]["type"] == "integer"
    assert "not accepted" in results(agent)[0][1]


def test_async_tools_run_in_the_loop(store: Store) -> None:
    @tool
    async def later(n: int) -> int:
        """The number, a little later.

        Args:
            n: the number
        """
        await anyio.lowlevel.checkpoint()
        return n

    agent = agent_of([calls(("later", {"n": 3})), final("ok")], store, tools=[later])
    agent.run("go")
    assert results(agent) == [("c0", "3")]


def test_a_tool_that_never_returns_times_out(store: Store) -> None:
    forever = threading.Event()

    @tool(timeout=0.05)
    def hang() -> str:
        """Never returns."""
        forever.wait()
        return ""

    agent = agent_of([calls(("hang", {})), final("ok")], store, tools=[hang])
    assert agent.run("go").output == "ok"
    assert "0.05" in results(agent)[0][1]
    forever.set()


def test_a_tool_call_is_durable_before_the_tool_runs(store: Store) -> None:
    seen: list[str] = []

    @tool
    def look() -> str:
        """What is in the store."""
        run = store.runs(limit=1)[0]
        seen.extend(row.type for row in store.events(run.run_id))
        return "ok"

    agent_of([calls(("look", {})), final("ok")], store, tools=[look]).run("go")
    assert seen[-1] == "tool.called"


def test_a_broken_store_in_a_tool_ends_the_run(store: Store) -> None:
    @tool
    def broken() -> str:
        """Uses a store that is gone."""
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="disk is full"):
        agent_of([calls(("broken", {})), final("never")], store, tools=[broken]).run("go")


def test_two_tools_of_one_name_are_refused(store: Store) -> None:
    other = tool(failing.forward, name="double")
    with pytest.raises(ConfigurationError, match="double"):
        agent_of([], store, tools=[double, other])


def test_a_session_goes_on_over_runs(store: Store) -> None:
    agent = agent_of(["Hello Ada", "You are Ada"], store)
    agent.run("My name is Ada", session="s1")
    agent.run("Who am I?", session="s1")
    texts = [m.content for m in requested(agent)]
    assert "My name is Ada" in texts
    assert "Hello Ada" in texts
    assert texts[-1] == "Who am I?"


def test_runs_of_other_sessions_stand_alone(store: Store) -> None:
    agent = agent_of(["a", "b"], store)
    agent.run("My name is Ada", session="s1")
    agent.run("Who am I?", session="s2")
    assert [m.content for m in requested(agent) if m.role == "user"] == ["Who am I?"]


def test_run_works_inside_a_running_loop(store: Store) -> None:
    async def notebook() -> str:
        return str(agent_of(["here"], store).run("go"))

    assert anyio.run(notebook) == "here"


def test_a_summarizer_is_asked_recorded_and_counted(store: Store) -> None:
    @tool
    def page(n: int) -> str:
        """A page.

        Args:
            n: its number
        """
        return f"page {n} " + "and so on " * 150

    facts = ScriptedModel(['{"facts": []}'] * 50, window=8192)
    budget = ContextBudget(4096, summarizer=facts)
    replies = [ModelReply(tool_calls=[ToolCall(f"c{n}", "page", {"n": n})]) for n in range(15)]
    result = agent_of([*replies, "done"], store, tools=[page], context=budget).run("Read all pages.")
    assert result.output == "done"
    assert facts.requests
    assert result.usage.requests == 16 + len(facts.requests)
    below = [run for run in store.runs(children=True) if run.agent == "summarizer"]
    assert len(below) == len(facts.requests)
    assert messages_of_request(store, below[-1].run_id, 1) == list(facts.requests[0].messages)


@pytest.mark.parametrize(("window", "searches"), [(8_192, False), (8_193, True)])
def test_small_windows_are_offered_fewer_tools_of_wherrys_own(store: Store, window: int, searches: bool) -> None:
    """Small models take them for the tools that the task wants; all of them can be called all the same."""
    model = ScriptedModel([calls(("search_artifact", {"ref": "a-1", "query": "x"})), "done"], window=window)
    agent = ToolCallingAgent([double], model, store=store)
    assert agent.run("go").output == "done"
    assert ("search_artifact" in {schema.name for schema in model.requests[0].tools}) is searches
    assert "no artifact 'a-1'" in requested(agent)[-1].content
