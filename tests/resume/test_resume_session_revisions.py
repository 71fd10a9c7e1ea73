"""Which turns a session keeps where its runs go on, and others came between."""

from __future__ import annotations

import pytest

from wherry import FunctionModel, Limits, RunStatus, ToolCallingAgent, open_store, tool
from wherry.errors import HookError, ModelError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.store import Store


@tool
def look() -> str:
    """Look."""
    return "seen"


class Broken:
    def before_model(self, request: ModelRequest) -> None:
        raise RuntimeError("not now")


def tasks(request: ModelRequest) -> ModelReply:
    """Says which tasks it was given."""
    given = [word for message in request.messages for word in message.content.split() if word.startswith("task-")]
    return ModelReply(" ".join(dict.fromkeys(given)))


def agent(store: Store, *hooks: object) -> ToolCallingAgent:
    return ToolCallingAgent([look], FunctionModel(tasks), hooks=hooks, store=store)


def test_a_run_that_had_asked_nothing_goes_on_with_the_session_as_it_is() -> None:
    store = open_store("memory://")
    with pytest.raises(HookError) as stopped:
        agent(store, Broken()).run("task-1", session="s")
    agent(store).run("task-2", session="s")
    assert stopped.value.run_id is not None
    with pytest.raises(HookError):  # once more, before it has asked anything
        agent(store, Broken()).resume(stopped.value.run_id)
    agent(store).run("task-3", session="s")
    went_on = agent(store).resume(stopped.value.run_id)
    assert went_on.output == "task-2 task-3 task-1"
    assert went_on.warnings == ()
    assert agent(store).run("task-4", session="s").output == "task-2 task-3 task-1 task-4"


def test_a_run_that_had_asked_leaves_what_came_between() -> None:
    store, replies = open_store("memory://"), [ModelReply(tool_calls=[ToolCall("c", "look", {})])]

    def stumbles(request: ModelRequest) -> ModelReply:
        if replies:
            return replies.pop()
        raise ModelError("no", kind="BadRequest")

    with pytest.raises(ModelError) as stopped:
        ToolCallingAgent([look], FunctionModel(stumbles), store=store).run("task-1", session="s")
    agent(store).run("task-2", session="s")
    assert stopped.value.run_id is not None
    went_on = agent(store).resume(stopped.value.run_id)
    assert went_on.output == "task-1"
    assert "session 's' was gone on with" in went_on.warnings[0]
    assert agent(store).run("task-3", session="s").output == "task-2 task-3"


def test_a_run_knows_what_it_saved_itself_however_often_it_goes_on() -> None:
    store = open_store("memory://")
    steps = [ModelReply(tool_calls=[ToolCall(f"c{n}", "look", {})]) for n in range(2)]
    script: list[ModelReply | ModelError] = [*steps, ModelError("no", kind="BadRequest"), ModelReply("done")]

    def scripted(request: ModelRequest) -> ModelReply:
        said = script.pop(0)
        if isinstance(said, ModelError):
            raise said
        return said

    going = ToolCallingAgent([look], FunctionModel(scripted), store=store)
    limited = going.run("task-1", session="s", limits=Limits(requests=1))
    assert limited.status is RunStatus.LIMIT
    with pytest.raises(ModelError):
        going.resume(limited.run_id, limits=Limits(requests=9))
    result = going.resume(limited.run_id)
    assert (result.output, result.warnings) == ("done", ())
    assert agent(store).run("task-2", session="s").output == "task-1 task-2"
