"""What a run had learned of its server's counts, and what it had planned, is known when it goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wherry import ContextBudget, FunctionModel, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ModelError
from wherry.journal import EventType, messages_of_request, read_events, verify
from wherry.messages import Message, ToolCall, Usage
from wherry.models import ModelReply, ModelRequest
from wherry.store import Store

STEPS = 24


@tool
def read(n: int) -> str:
    """Read a page.

    Args:
        n: its number
    """
    return f"page {n}: " + f"line {n} of some text that goes on and on; " * 18


def requests(store: Store, run_id: str) -> dict[tuple[int, str], list[Message]]:
    """The last request for each step, and for each thing aside, as recorded."""
    asked = [event for event in read_events(store, run_id) if event.type is EventType.MODEL_REQUESTED]
    return {
        (event.payload["step"], event.payload.get("aside", "")): messages_of_request(store, run_id, n)
        for n, event in enumerate(asked, start=1)
    }


def characters(request: ModelRequest) -> int:
    return sum(len(message.content) + 60 for message in request.messages) + 400 * len(request.tools)


def model(share: float, stumbles: Callable[[int], bool], **profile: object) -> FunctionModel:
    """Reads page after page; its server counts so many tokens a character, and fails at some requests."""
    count = 0

    def answer(request: ModelRequest) -> ModelReply:
        nonlocal count
        count += 1
        if stumbles(count):
            raise ModelError("no", kind="BadRequest")
        usage = Usage(input_tokens=int(characters(request) * share), output_tokens=10)
        if not request.tools:
            return ModelReply("a plan", usage=usage)
        found = [message.content for message in request.messages if message.role == "tool"]
        n = int(found[-1].split(":")[0].split()[1]) + 1 if found else 0
        if n == STEPS:
            return ModelReply("done", usage=usage)
        return ModelReply(tool_calls=[ToolCall(f"c{n}", "read", {"n": n})], usage=usage)

    return FunctionModel(answer, window=5_000, name="counted", **profile)


def agent(model: FunctionModel, store: Store, planning: int | None) -> ToolCallingAgent:
    budget = ContextBudget(reserve_output=300)
    return ToolCallingAgent([read], model, store=store, context=budget, max_steps=40, planning_interval=planning)


@pytest.mark.slow
@pytest.mark.parametrize("planning", [None, 3])
@pytest.mark.parametrize("counter", ["bytes", "o200k"])
@pytest.mark.parametrize("share", [0.1, 0.22, 0.4])
def test_requests_after_an_interruption_are_those_that_would_have_come(
    share: float, counter: str, planning: int | None
) -> None:
    store = open_store("memory://")
    undisturbed = agent(model(share, lambda n: False, counter=counter), store, planning).run("Read all.")
    whole = requests(store, undisturbed.run_id)
    folded = [event for event in read_events(store, undisturbed.run_id) if event.type is EventType.CONTEXT_COMPACTED]
    assert len(folded) >= (1 if share > 0.1 else 0)
    for every in (2, 3, 5):
        going = agent(model(share, lambda n, every=every: n % every == 0, counter=counter), store, planning)
        with pytest.raises(ModelError) as stopped:
            going.run("Read all.")
        run_id = stopped.value.run_id
        assert run_id is not None
        for _ in range(99):
            # Made anew, as in another process.
            going = agent(model(share, lambda n, every=every: n % every == 0, counter=counter), store, planning)
            try:
                result = going.resume(run_id)
            except ModelError:
                continue
            break
        else:
            raise AssertionError("it does not end")
        assert result.status is RunStatus.COMPLETED
        went_on = requests(store, run_id)
        assert went_on.keys() == whole.keys()
        for key, messages in whole.items():
            assert went_on[key] == messages, (every, key)
        verify(store, run_id)


def test_counts_of_another_model_say_nothing() -> None:
    store = open_store("memory://")
    with pytest.raises(ModelError) as stopped:
        agent(model(0.1, lambda n: n == 8), store, None).run("Read all.")
    assert stopped.value.run_id is not None
    other = model(0.1, lambda n: False)
    renamed = FunctionModel(other.complete, window=5_000, name="another")
    result = agent(renamed, store, None).resume(stopped.value.run_id)
    assert result.output == "done"
    verify(store, result.run_id)


def test_a_plan_is_not_asked_for_again_where_its_step_was_asked_for() -> None:
    look = ModelReply(tool_calls=[ToolCall("c", "read", {"n": 1})])
    failing = [ModelReply("the plan"), ModelError("no", kind="BadRequest"), look, ModelReply("done")]
    scripted, store = ScriptedModel(failing), open_store("memory://")
    planning = ToolCallingAgent([read], scripted, planning_interval=5, store=store)
    with pytest.raises(ModelError) as stopped:
        planning.run("Read.")
    assert stopped.value.run_id is not None
    assert planning.resume(stopped.value.run_id).output == "done"
    assert scripted.requests[2].messages == scripted.requests[1].messages
    made = [event for event in read_events(store, stopped.value.run_id) if event.type is EventType.PLAN_MADE]
    assert len(made) == 1
