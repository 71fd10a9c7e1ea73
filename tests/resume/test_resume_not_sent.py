"""Requests that were made up and not sent: refused by a hook, or one too many. The records know nothing of them."""

from __future__ import annotations

from typing import Any

import pytest

from wherry import CodeAgent, FunctionModel, Limits, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import HookError, Refuse
from wherry.journal import messages_of_request, verify
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.store import Store


@tool
def look(n: int) -> str:
    """Look.

    Args:
        n: a number
    """
    return f"looked at {n}"


class Choosy:
    """Refuses the requests of these numbers, from 0."""

    def __init__(self, *refused: int) -> None:
        self._refused = refused
        self._asked = -1

    def before_model(self, request: ModelRequest) -> None:
        self._asked += 1
        if self._asked in self._refused:
            raise Refuse(f"no {self._asked}")


def _calls(count: int) -> list[ModelReply]:
    return [ModelReply(tool_calls=[ToolCall(f"c{n}", "look", {"n": n})]) for n in range(count)]


def _recorded(store: Store, run_id: str, count: int) -> list[list[Message]]:
    return [messages_of_request(store, run_id, n) for n in range(1, count + 1)]


@pytest.mark.parametrize("refused", [(0,), (1,), (0, 1), (2, 3), (1, 3)])
@pytest.mark.parametrize("planning", [None, 2])
def test_requests_after_a_refused_one_are_on_record_as_sent(refused: tuple[int, ...], planning: int | None) -> None:
    replies = [*_calls(3), ModelReply("done")] if planning is None else [ModelReply(f"say {n}") for n in range(9)]
    model, store = ScriptedModel(replies), open_store("memory://")
    agent = ToolCallingAgent([look], model, hooks=[Choosy(*refused)], planning_interval=planning, store=store)
    result = agent.run("Look around.")
    assert result.status is RunStatus.COMPLETED
    sent = [list(request.messages) for request in model.requests]
    assert _recorded(store, result.run_id, len(sent)) == sent
    verify(store, result.run_id)


@pytest.mark.parametrize("refused", [(0,), (1,), (0, 1), (2,)])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_with_refused_requests_goes_on_with_all_that_was_said(refused: tuple[int, ...], stop: int) -> None:
    def answer(request: ModelRequest) -> ModelReply:
        at = sum(bool(message.tool_calls) for message in request.messages)
        return [*_calls(4), ModelReply("done")][at]

    def begin(*hooks: object) -> tuple[ToolCallingAgent, Store]:
        store = open_store("memory://")
        return ToolCallingAgent([look], FunctionModel(answer), hooks=hooks, store=store), store

    agent, store = begin(Choosy(*refused))
    whole = _recorded(store, agent.run("Look around.").run_id, 5)

    agent, store = begin(Choosy(*refused))
    stopped = agent.run("Look around.", limits=Limits(requests=stop))
    assert stopped.status is RunStatus.LIMIT
    went_on = ToolCallingAgent([look], FunctionModel(answer), store=store)
    result = went_on.resume(stopped.run_id, limits=Limits(requests=99))
    assert result.output == "done"
    if max(refused) < stop:  # a refusal behind the last request is gone: what it refused is asked anew
        assert _recorded(store, stopped.run_id, 5) == whole
    verify(store, stopped.run_id)


class Broken:
    def before_model(self, request: ModelRequest) -> None:
        raise RuntimeError("not now")


@pytest.mark.parametrize("kind", [ToolCallingAgent, CodeAgent])
@pytest.mark.parametrize("large", [10, 5_000])
def test_what_is_said_of_inputs_stays_where_nothing_was_asked_yet(
    kind: type[ToolCallingAgent | CodeAgent], large: int
) -> None:
    numpy: Any = pytest.importorskip("numpy")
    inputs = {"table": numpy.arange(6.0).reshape(2, 3), "pair": (1, {"b", "a"} - {"b"}), "text": "x" * large}
    model = ScriptedModel([ModelReply("```python\nfinal_answer(1)\n```" if kind is CodeAgent else "1")] * 2)

    def agent(store: Store, *hooks: object) -> ToolCallingAgent | CodeAgent:
        return kind(model=model, hooks=hooks, store=store)

    agent(open_store("memory://")).run("Look.", inputs=inputs)
    store = open_store("memory://")
    with pytest.raises(HookError) as stopped:
        agent(store, Broken()).run("Look.", inputs=inputs)
    assert stopped.value.run_id is not None
    agent(store).resume(stopped.value.run_id)
    first, again = (request.messages[1].content for request in model.requests)
    assert "array of shape (2, 3)" in first
    assert again.split("artifact a-")[0] == first.split("artifact a-")[0]
    assert len(again) == len(first)
