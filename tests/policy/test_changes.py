"""What changes in an agent is seen, recorded with a diff, and kept from running until it is approved."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wherry import FunctionModel, Knowledge, Policy, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.journal import Event, EventType, read_events
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.policy.approvals import Decision, decide
from wherry.store import Store
from wherry.tools import Tool

CHANGES = (EventType.TOOLS_CHANGED, EventType.PROMPT_CHANGED, EventType.MODEL_CHANGED, EventType.POLICY_CHANGED)


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


@tool
def look(what: str) -> str:
    """Look something up."""
    return f"{what} is fine"


@tool
def other(what: str) -> str:
    """Look elsewhere."""
    return f"{what} is elsewhere"


def call(name: str, **arguments: Any) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("c", name, arguments)])


def final(answer: Any = "done") -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": answer})])


def agent_of(store: Store, *replies: Any, **options: Any) -> ToolCallingAgent:
    made: dict[str, Any] = {"name": "worker", "tools": [look], "store": store, **options}
    return ToolCallingAgent(made.pop("tools"), ScriptedModel([*replies, final()]), **made)


def changed(store: Store, run_id: str | None = None) -> list[Event]:
    run_id = store.runs()[0].run_id if run_id is None else run_id
    return [event for event in read_events(store, run_id) if event.type in CHANGES]


def module(folder: Path, name: str, source: str) -> types.ModuleType:
    """A module with a file, whose functions have a source."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    made = types.ModuleType(name)
    made.__file__ = str(path)
    exec(compile(source, str(path), "exec"), made.__dict__)
    sys.modules[name] = made
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("pattern", [r"\d{5,}", r"\d{3}", r"\b[0-9a-f]{8,}"])
def test_patterns_that_find_parts_of_digests_are_no_change(store: Store, pattern: str) -> None:
    """What was seen and approved is kept under such a policy too, and compared with later runs."""

    def agent(*replies: Any, tools: Any = (look,)) -> ToolCallingAgent:
        instructions = "Call 0123456789 if in doubt."
        return agent_of(store, *replies, tools=tools, policy=policy, instructions=instructions)

    policy = Policy(redact=[pattern], new_tools="approve")
    for _ in range(3):
        assert agent(call("look", what="12345678")).run("look 987654321").status is RunStatus.COMPLETED
        assert changed(store) == []
    agent(tools=(look, other)).run("look")
    assert [event.type for event in changed(store)] == [EventType.TOOLS_CHANGED]
    waits = agent(call("other", what="x"), tools=(look, other)).run("look")
    assert changed(store) == []
    assert [one.kind for one in waits.pending] == ["changed_tool"]
    decide(store, waits.pending[0].id, True)
    assert agent(tools=(look, other)).resume(waits.run_id).status is RunStatus.COMPLETED
    assert agent(call("other", what="x"), tools=(look, other)).run("look").status is RunStatus.COMPLETED


def test_nothing_is_said_where_nothing_changed(store: Store) -> None:
    for _ in range(2):
        agent_of(store, call("look", what="x"), policy=Policy(approve=["none"])).run("look")
    assert changed(store) == []


def test_tools_that_come_and_go_in_mid_run(store: Store) -> None:
    def answer(request: ModelRequest) -> ModelReply:
        steps = sum(message.role == "assistant" for message in request.messages)
        if steps == 0:
            agent.tools["other"] = other
        if steps == 1:
            del agent.tools["look"]
            agent.tools["other"] = tool(other.forward, name="other", description="Another look elsewhere.")
        return call("other", what="x") if steps < 3 else final()

    agent = ToolCallingAgent([look], FunctionModel(answer), store=store)
    agent.run("look")
    first, second = changed(store)
    assert (first.payload["added"], first.payload["removed"], first.payload["step"]) == (["other"], [], 2)
    assert '+  "description": "Look elsewhere."' in first.payload["diff"]
    assert (second.payload["removed"], second.payload["changed"]) == (["look"], ["other"])
    assert '-  "description": "Look elsewhere."' in second.payload["diff"]
    assert '+  "description": "Another look elsewhere."' in second.payload["diff"]


def test_a_description_that_is_changed_in_place(store: Store) -> None:
    own = tool(name="own", description="First.")(lambda: 1)

    shown: list[str] = []

    def answer(request: ModelRequest) -> ModelReply:
        shown.append(request.tools[0].description)
        if len(request.messages) > 2:
            return final()
        own.description = "Second."
        return call("own")

    ToolCallingAgent([own], FunctionModel(answer), store=store).run("go")
    [event] = changed(store)
    assert event.payload["changed"] == ["own"]
    assert shown == ["First.", "Second."]


def test_code_that_is_replaced_in_place(store: Store, tmp_path: Path) -> None:
    first = module(tmp_path, "code_first", 'def work(n: int) -> int:\n    """Work."""\n    return n + 1\n')
    second = module(tmp_path, "code_second", 'def work(n: int) -> int:\n    """Work."""\n    return n - 1\n')

    def answer(request: ModelRequest) -> ModelReply:
        if len(request.messages) > 2:
            return final()
        first.work.__code__ = second.work.__code__  # as a reloader does
        return call("work", n=1)

    ToolCallingAgent([first.work], FunctionModel(answer), store=store).run("go")
    [event] = changed(store)
    assert (event.payload["changed"], event.payload["code"]) == ([], ["work"])
    assert "-    return n + 1\n+    return n - 1\n" in event.payload["diff"]


def test_between_two_runs_of_an_agent(store: Store, tmp_path: Path) -> None:
    first = module(tmp_path, "between_first", 'def work(n: int) -> int:\n    """Work."""\n    return n + 1\n')
    second = module(tmp_path, "between_second", 'def work(n: int) -> int:\n    """Work."""\n    return n - 1\n')
    agent_of(store, tools=[look, first.work], instructions="Be brief.").run("go")
    before = store.runs()[0].run_id
    model = FunctionModel(lambda request: final(), name="elsewhere")
    policy = Policy(deny=["look"])
    after = ToolCallingAgent(
        [look, second.work], model, name="worker", store=store, instructions="Be long.", policy=policy
    )
    after.run("go")
    tools, prompt, other_model, other_policy = changed(store)
    assert tools.payload["code"] == ["work"]
    assert "+    return n - 1" in tools.payload["diff"]
    assert {event.payload["since"] for event in (tools, prompt, other_model)} == {before}
    assert "-Be brief.\n" in prompt.payload["diff"]
    assert "+Be long.\n" in prompt.payload["diff"]
    assert "+elsewhere" in other_model.payload["diff"]
    assert other_policy.payload["before"] is None
    assert '+      "tools": "look"' in other_policy.payload["diff"]
    after.run("go")
    assert changed(store) == []
    listed = store.changes.events()
    assert [row.type for row in listed] == ["tools.changed", "prompt.changed", "model.changed", "policy.changed"]


def test_agents_without_a_name_are_not_mixed_up(store: Store) -> None:
    agent_of(store, name=None).run("go")
    agent_of(store, name=None, tools=[other]).run("go")
    assert changed(store) == []


def test_a_policy_and_a_prompt_that_change_in_mid_run(store: Store) -> None:
    def answer(request: ModelRequest) -> ModelReply:
        if len(request.messages) > 2:
            return final()
        agent.policy = Policy(deny=["other"])
        agent.instructions = "Be brief."
        return call("look", what="x")

    agent = ToolCallingAgent([look], FunctionModel(answer), store=store, instructions="Be long.")
    agent.run("go")
    assert [event.type for event in changed(store)] == [EventType.PROMPT_CHANGED, EventType.POLICY_CHANGED]


def test_knowledge_is_seen_by_what_is_pinned(store: Store) -> None:
    for pinned in ("Keep to it.", "Keep to it."):
        knowledge = Knowledge(texts={"a.md": "# A\n\nText."}, pinned=pinned)
        agent_of(store, instructions=knowledge).run("go")
    assert changed(store) == []
    agent_of(store, instructions=Knowledge(texts={"a.md": "# A\n\nText."}, pinned="Or not.")).run("go")
    assert [event.type for event in changed(store)] == [EventType.PROMPT_CHANGED]


def test_predicates_of_policies_are_compared_by_their_source(store: Store) -> None:
    for limit in (1, 1, 2):
        text = f"lambda arguments: arguments['n'] > {limit}"
        agent_of(store, policy=Policy(approve=[("look", eval(text))])).run("go")
    assert [event.type for event in changed(store)] == [EventType.POLICY_CHANGED]


APPROVE = Policy(new_tools="approve")


def version(number: int) -> Tool:
    def look(what: str) -> str:
        return f"{what} {number}"

    return tool(look, description=f"Look, version {number}.")


def test_the_first_tools_may_be_called_and_changed_ones_wait(store: Store) -> None:
    first = agent_of(store, call("look", what="x"), tools=[version(1)], policy=APPROVE).run("go")
    assert first.status is RunStatus.COMPLETED
    agent = agent_of(store, call("look", what="x"), tools=[version(2)], policy=APPROVE)
    waits = agent.run("go")
    assert waits.status is RunStatus.WAITING
    [approval] = waits.pending
    assert (approval.kind, approval.agent) == ("changed_tool", "worker")
    assert "another than the one that was approved" in approval.why
    assert '-  "description": "Look, version 1."' in approval.diff
    assert '+  "description": "Look, version 2."' in approval.diff
    assert agent.resume(waits.run_id, approvals={approval.id: True}).status is RunStatus.COMPLETED
    again = agent_of(store, call("look", what="x"), tools=[version(2)], policy=APPROVE).run("go")
    assert again.status is RunStatus.COMPLETED
    back = agent_of(store, call("look", what="x"), tools=[version(1)], policy=APPROVE).run("go")
    assert back.status is RunStatus.COMPLETED  # it was approved once


def test_a_denied_tool_does_not_run_and_is_asked_for_anew_elsewhere(store: Store) -> None:
    agent_of(store, policy=APPROVE).run("go")
    agent = agent_of(store, call("other", what="x"), tools=[look, other], policy=APPROVE)
    waits = agent.run("go")
    assert "is new" in waits.pending[0].why
    decide(store, waits.pending[0].id, Decision(False, reason="not yet"))
    assert agent.resume(waits.run_id).status is RunStatus.COMPLETED
    [returned] = [event for event in read_events(store, waits.run_id) if event.type is EventType.TOOL_RETURNED]
    assert "denied by a person: not yet" in returned.payload["error"]
    later = agent_of(store, call("other", what="x"), tools=[look, other], policy=APPROVE).run("go")
    assert later.status is RunStatus.WAITING


def test_one_approval_is_enough_for_all_runs_that_wait(store: Store) -> None:
    agent_of(store, policy=APPROVE).run("go")
    agents = [agent_of(store, call("other", what="x"), tools=[look, other], policy=APPROVE) for _ in range(2)]
    one, two = [agent.run("go") for agent in agents]
    decide(store, one.pending[0].id, True)
    assert agents[1].resume(two.run_id).status is RunStatus.COMPLETED
    assert agents[0].resume(one.run_id).status is RunStatus.COMPLETED
    assert store.approvals.find(pending=True) == []


def test_new_tools_may_be_denied(store: Store) -> None:
    def answer(request: ModelRequest) -> ModelReply:
        said = [message.content for message in request.messages if message.role == "tool"]
        if len(said) == 2:
            return final(said)
        agent.tools["other"] = other  # for the next step
        return call("other", what="x")

    agent = ToolCallingAgent([look], FunctionModel(answer), store=store, policy=Policy(new_tools="deny"))
    result = agent.run("go")
    assert "allows no new tools" in result.output[1]


def test_a_changed_tool_that_needs_approval_waits_twice(store: Store) -> None:
    policy = Policy(new_tools="approve", approve=["look"])
    agent_of(store, tools=[version(1)], policy=policy).run("go")
    agent = agent_of(store, call("look", what="x"), tools=[version(2)], policy=policy)
    first = agent.run("go")
    second = agent.resume(first.run_id, approvals={first.pending[0].id: True})
    assert [one.kind for one in (*first.pending, *second.pending)] == ["changed_tool", "approval"]
    assert agent.resume(first.run_id, approvals={second.pending[0].id: True}).status is RunStatus.COMPLETED


def test_a_managed_agent_is_governed_by_its_manager(store: Store) -> None:
    def crew(*tools: Any) -> ToolCallingAgent:
        clerk = agent_of(store, call(tools[-1].name, what="x"), name="clerk", description="Looks.", tools=tools)
        return agent_of(
            store, call("clerk", task="look"), name="boss", tools=[], managed_agents=[clerk], policy=APPROVE
        )

    assert crew(look).run("go").status is RunStatus.COMPLETED
    boss = crew(look, other)
    waits = boss.run("go")
    assert [(one.agent, one.kind, one.name) for one in waits.pending] == [("clerk", "changed_tool", "other")]
    assert boss.resume(waits.run_id, approvals={waits.pending[0].id: True}).status is RunStatus.COMPLETED


def test_sources_are_read_once(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    read: list[object] = []
    real: Callable[[Any], str] = inspect.getsource

    def counting(thing: Any) -> str:
        read.append(thing)
        return real(thing)

    monkeypatch.setattr(inspect, "getsource", counting)
    fresh = tool(version(7).forward, name="fresh", description="Fresh.")
    for _ in range(3):
        agent_of(store, call("fresh", what="x"), tools=[fresh]).run("go")
    assert len(read) == 1
