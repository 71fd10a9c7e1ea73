"""Hooks: what sees, changes or refuses requests, calls and snippets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from wherry import CodeAgent, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.agents.acting import Outcome
from wherry.errors import ConfigurationError, ContextBudgetError, HookError, Refuse, ToolError
from wherry.journal import Event, EventType, messages_of_request, read_events
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.sandbox import Execution
from wherry.store import Store
from wherry.tools import current_context


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


@tool
def double(n: int) -> int:
    """Double a number."""
    return n * 2


def call(name: str, id: str = "1", /, **arguments: Any) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(id, name, arguments)])


def snippet(code: str) -> str:
    return f"```python\n{code}\n```"


def payloads(store: Store, run_id: str, type: EventType) -> list[Mapping[str, Any]]:
    return [event.payload for event in read_events(store, run_id) if event.type is type]


class Watching:
    """Sees everything, changes nothing."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def before_model(self, request: ModelRequest) -> None:
        self.seen.append(f"before_model {len(request.messages)}")

    def after_model(self, request: ModelRequest, reply: ModelReply) -> None:
        self.seen.append(f"after_model {len(reply.tool_calls)}")

    def before_tool(self, call: ToolCall) -> None:
        self.seen.append(f"before_tool {call.id} {call.name} {dict(call.arguments)} {current_context().agent}")

    async def after_tool(self, call: ToolCall, outcome: Outcome) -> None:
        self.seen.append(f"after_tool {call.name} {outcome.ok} {outcome.text}")

    def on_event(self, event: Event) -> None:
        if event.type in (EventType.RUN_STARTED, EventType.RUN_FINISHED):
            self.seen.append(event.type.value)


def test_each_method_is_called_where_it_belongs(store: Store) -> None:
    hook = Watching()
    model = ScriptedModel([call("double", n=4), call("final_answer", "2", answer=8)])
    result = ToolCallingAgent([double], model, name="ann", store=store, hooks=[hook]).run("go")
    assert result.output == 8
    assert hook.seen == [
        "run.started",
        "before_model 2",
        "after_model 1",
        "before_tool 1 double {'n': 4} ann",
        "after_tool double True 8",
        "before_model 4",
        "after_model 1",
        "run.finished",
    ]


def test_arguments_can_be_changed_and_both_are_recorded(store: Store) -> None:
    class Capped:
        def before_tool(self, call: ToolCall) -> Mapping[str, Any]:
            return {**call.arguments, "n": min(10, call.arguments["n"])}

    model = ScriptedModel([call("double", n=1000), call("final_answer", "2", answer="done")])
    result = ToolCallingAgent([double], model, store=store, hooks=[Capped()]).run("go")
    assert payloads(store, result.run_id, EventType.TOOL_CALLED)[0]["arguments"] == {"n": 1000}
    returned = payloads(store, result.run_id, EventType.TOOL_RETURNED)[0]
    assert (returned["arguments"], returned["preview"]) == ({"n": 10}, "20")


@pytest.mark.parametrize("refusal", [Refuse("not on Sundays"), ToolError("not on Sundays")])
def test_a_refused_call_is_not_made_and_the_model_is_told(store: Store, refusal: Exception) -> None:
    class Refusing:
        async def before_tool(self, call: ToolCall) -> None:
            raise refusal

    made: list[int] = []

    @tool
    def charge(n: int) -> int:
        """Charge a card."""
        made.append(n)
        return n

    model = ScriptedModel([call("charge", n=1), call("final_answer", "2", answer="no")])
    result = ToolCallingAgent([charge], model, store=store, hooks=[Refusing()]).run("go")
    assert (made, result.status) == ([], RunStatus.COMPLETED)
    assert model.requests[1].messages[-1].content == "Error: not on Sundays"
    assert payloads(store, result.run_id, EventType.TOOL_RETURNED)[0]["error"] == "not on Sundays"


def test_a_refused_specialist_is_not_asked(store: Store) -> None:
    class Refusing:
        def before_tool(self, call: ToolCall) -> None:
            raise Refuse(f"{call.name} is away")

    worker = ToolCallingAgent(model=ScriptedModel([]), name="worker", description="Works.")
    model = ScriptedModel([call("worker", task="dig"), call("final_answer", "2", answer="no")])
    ToolCallingAgent(model=model, managed_agents=[worker], store=store, hooks=[Refusing()]).run("go")
    assert model.requests[1].messages[-1].content == "Error: worker is away"


def test_code_can_be_changed_and_refused(store: Store) -> None:
    class Careful:
        def __init__(self) -> None:
            self.ran: list[tuple[str, Any]] = []

        def before_code(self, code: str) -> str | None:
            if "open(" in code:
                raise Refuse("no files, please")
            return code.replace("6", "7")

        def after_code(self, code: str, execution: Execution) -> None:
            self.ran.append((code, execution.value))

    hook = Careful()
    model = ScriptedModel([snippet("open('x', 'w')"), snippet("x = 6 * 6\nx"), snippet("final_answer(x)")])
    result = CodeAgent(model=model, store=store, hooks=[hook]).run("go")
    assert result.output == 49
    assert model.requests[1].messages[-1].content == "Error:\nThe code was not run: no files, please"
    assert hook.ran == [("x = 7 * 7\nx", 49), ("final_answer(x)", 49)]
    finished = payloads(store, result.run_id, EventType.CODE_FINISHED)
    assert [payload["kind"] for payload in finished] == ["hook", None, None]


def test_a_call_from_code_can_be_refused_and_caught(store: Store) -> None:
    class Refusing:
        def before_tool(self, call: ToolCall) -> None:
            raise Refuse("not that")

    code = "try:\n    double(n=2)\nexcept ToolError as error:\n    final_answer(str(error))"
    result = CodeAgent([double], ScriptedModel([snippet(code)]), store=store, hooks=[Refusing()]).run("go")
    assert result.output == "not that"


def test_a_changed_request_is_what_is_sent_and_recorded(store: Store) -> None:
    class Reminding:
        def before_model(self, request: ModelRequest) -> ModelRequest:
            system, *rest = request.messages
            system = replace(system, content=f"{system.content}\nBe kind.")
            return replace(request, messages=(system, *rest), settings={"temperature": 0})

    model = ScriptedModel([call("double", n=2), call("final_answer", "2", answer=4)])
    result = ToolCallingAgent([double], model, store=store, hooks=[Reminding()]).run("go")
    for number, request in enumerate(model.requests, 1):
        assert request.settings == {"temperature": 0}
        assert request.messages[0].content.endswith("Be kind.")
        assert list(request.messages) == messages_of_request(store, result.run_id, number)
    assert payloads(store, result.run_id, EventType.MODEL_REQUESTED)[0]["settings"] == {"temperature": 0}


def test_requests_after_a_changed_one_are_recorded_whole_again(store: Store) -> None:
    class Once:
        def __init__(self) -> None:
            self.left = 1

        def before_model(self, request: ModelRequest) -> ModelRequest | None:
            self.left -= 1
            if self.left < 0:
                return None
            return replace(request, messages=(Message("system", "Short."), *request.messages[1:]))

    replies = [call("double", str(n), n=n) for n in range(3)] + [call("final_answer", "9", answer=4)]
    model = ScriptedModel(replies)
    result = ToolCallingAgent([double], model, store=store, hooks=[Once()]).run("go")
    for number, request in enumerate(model.requests, 1):
        assert list(request.messages) == messages_of_request(store, result.run_id, number)


def test_a_hook_cannot_burst_the_window(store: Store) -> None:
    class Stuffing:
        def before_model(self, request: ModelRequest) -> ModelRequest:
            return replace(request, messages=(*request.messages, Message("user", "word " * 50_000)))

    model = ScriptedModel([call("final_answer", answer=4)], window=8192)
    with pytest.raises(ContextBudgetError, match="does not fit"):
        ToolCallingAgent(model=model, store=store, hooks=[Stuffing()]).run("go")
    assert model.requests == []


def test_a_refused_request_takes_a_step_and_the_model_is_told_at_the_next(store: Store) -> None:
    class FirstNot:
        def __init__(self) -> None:
            self.asked = 0

        def before_model(self, request: ModelRequest) -> None:
            self.asked += 1
            if self.asked == 1:
                raise Refuse("wait for the boss")

    model = ScriptedModel([call("final_answer", answer=4)])
    result = ToolCallingAgent(model=model, store=store, hooks=[FirstNot()]).run("go")
    assert (result.output, result.steps, result.usage.requests) == (4, 2, 1)
    assert "wait for the boss" in model.requests[0].messages[-1].content


def test_a_request_that_is_always_refused_ends_at_max_steps(store: Store) -> None:
    class Never:
        def before_model(self, request: ModelRequest) -> None:
            raise Refuse("no")

    model = ScriptedModel([])
    result = ToolCallingAgent(model=model, store=store, hooks=[Never()], max_steps=2).run("go")
    assert (result.status, result.output, result.usage.requests) == (RunStatus.MAX_STEPS, None, 0)
    assert "a hook refused the last word" in result.warnings[-1]


class Broken:
    def __init__(self, method: str) -> None:
        def fail(*_: object) -> None:
            raise ValueError("oops")

        setattr(self, method, fail)


@pytest.mark.parametrize("method", ["before_model", "after_model", "before_tool", "after_tool"])
def test_a_hook_that_fails_ends_the_run_and_is_named(store: Store, method: str) -> None:
    model = ScriptedModel([call("double", n=4), call("final_answer", "2", answer=8)])
    with pytest.raises(HookError, match=rf"the hook Broken\.{method} raised ValueError: oops") as caught:
        ToolCallingAgent([double], model, store=store, hooks=[Broken(method)]).run("go")
    assert caught.value.hook == f"Broken.{method}"
    assert store.run(caught.value.run_id or "").status == "failed"


@pytest.mark.parametrize("method", ["before_code", "after_code"])
def test_so_does_one_around_code(store: Store, method: str) -> None:
    with pytest.raises(HookError, match=rf"Broken\.{method}"):
        CodeAgent(model=ScriptedModel([snippet("1")]), store=store, hooks=[Broken(method)]).run("go")


def test_one_that_returns_nonsense_is_named(store: Store) -> None:
    class Wrong:
        def before_tool(self, call: ToolCall) -> Any:
            return "n=3"

    model = ScriptedModel([call("double", n=4)])
    with pytest.raises(HookError, match=r"Wrong\.before_tool returned str; it should return the arguments"):
        ToolCallingAgent([double], model, store=store, hooks=[Wrong()]).run("go")


def test_an_on_event_that_fails_is_a_warning_and_hears_no_more(store: Store) -> None:
    heard: list[str] = []

    class Faint:
        def on_event(self, event: Event) -> None:
            heard.append(event.type.value)
            raise ValueError("oops")

    model = ScriptedModel([call("final_answer", answer=8)])
    result = ToolCallingAgent(model=model, store=store, hooks=[Faint()]).run("go")
    assert heard == ["run.started"]
    assert result.output == 8
    assert result.warnings == ("the hook Faint.on_event raised ValueError: oops",)
    assert payloads(store, result.run_id, EventType.WARNING)[0]["message"] == result.warnings[0]


def test_an_asynchronous_on_event_has_heard_all_when_the_run_ends(store: Store) -> None:
    heard: list[tuple[str, str]] = []

    class Slow:
        async def on_event(self, event: Event) -> None:
            await asyncio.sleep(0)
            heard.append((event.agent, event.type.value))

    worker = ToolCallingAgent(model=ScriptedModel([call("final_answer", answer=1)]), name="worker", description="W.")
    model = ScriptedModel([call("worker", task="dig"), call("final_answer", "2", answer=8)])
    result = ToolCallingAgent(model=model, name="boss", managed_agents=[worker], store=store, hooks=[Slow()]).run("go")
    assert heard[-1] == ("boss", "run.finished")
    assert ("worker", "run.finished") in heard
    own = [event.type.value for event in read_events(store, result.run_id)]
    assert [type for agent, type in heard if agent == "boss"] == own


def test_a_specialists_hook_hears_of_its_own_runs_alone(store: Store) -> None:
    heard: set[str] = set()

    class Mine:
        def on_event(self, event: Event) -> None:
            heard.add(event.agent)

    worker = ToolCallingAgent(
        model=ScriptedModel([call("final_answer", answer=1)]), name="worker", description="W.", hooks=[Mine()]
    )
    model = ScriptedModel([call("worker", task="dig"), call("final_answer", "2", answer=8)])
    ToolCallingAgent(model=model, name="boss", managed_agents=[worker], store=store).run("go")
    assert heard == {"worker"}


@pytest.mark.parametrize(
    ("hooks", "match"),
    [
        (Watching(), "hooks is"),
        ([object()], "is no hook"),
        ([Watching], "the class 'Watching' is no hook"),
        ([type("Typo", (Watching,), {"before_tools": print})()], "'before_tools', which nothing calls"),
    ],
)
def test_what_is_no_hook_is_refused_at_once(hooks: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        ToolCallingAgent(model=ScriptedModel([]), hooks=hooks)
