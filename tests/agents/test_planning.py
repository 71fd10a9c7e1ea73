"""Plans between steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import CodeAgent, FunctionModel, Limits, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ConfigurationError
from wherry.journal import EventType, read_events
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return "x" * 2000


def planned(request: ModelRequest) -> bool:
    return "Do not carry it out yet" in request.messages[-1].content


def test_the_model_is_asked_for_a_plan_and_sees_it(tmp_path: Any) -> None:
    store = open_store("memory://")
    replies = ["1. add\n2. tell", "```python\nx = 1\n```", "```python\nfinal_answer(x)\n```"]
    model = ScriptedModel(replies)
    result = CodeAgent(model=model, store=store, planning_interval=5).run("go")
    assert (result.output, result.steps, result.usage.requests) == (1, 2, 3)
    roles = [(m.role, m.content) for m in model.requests[1].messages[2:]]
    assert roles == [("assistant", "1. add\n2. tell"), ("user", "Now carry out this plan, one step at a time.")]
    made = [event.payload for event in read_events(store, result.run_id) if event.type is EventType.PLAN_MADE]
    assert [(payload["step"], payload["plan"]) for payload in made] == [(1, "1. add\n2. tell")]


@pytest.mark.slow
@given(interval=st.integers(1, 6), steps=st.integers(1, 12))
def test_a_plan_is_made_before_the_first_step_and_after_every_so_many(interval: int, steps: int) -> None:
    asked: list[str] = []

    def answer(request: ModelRequest) -> ModelReply | str:
        if planned(request):
            asked.append("plan")
            return "a plan"
        asked.append("step")
        done = asked.count("step") == steps
        name, arguments = ("final_answer", {"answer": 1}) if done else ("look", {"where": "there"})
        return ModelReply(tool_calls=[ToolCall(str(len(asked)), name, arguments)])

    agent = ToolCallingAgent(
        [look], FunctionModel(answer), planning_interval=interval, max_steps=steps, store="memory://"
    )
    result = agent.run("go")
    wanted: list[str] = []
    for step in range(steps):
        wanted += ["plan", "step"] if step % interval == 0 else ["step"]
    assert asked == wanted
    assert (result.status, result.steps, result.usage.requests) == (RunStatus.COMPLETED, steps, len(wanted))


def test_plans_stay_inside_the_window() -> None:
    sizes: list[int] = []

    def answer(request: ModelRequest) -> ModelReply | str:
        sizes.append(sum(len(m.content) for m in request.messages))
        if planned(request):
            return "plan " * 100
        done = len(sizes) > 60
        name, arguments = ("final_answer", {"answer": 1}) if done else ("look", {"where": "there"})
        return ModelReply(tool_calls=[ToolCall(str(len(sizes)), name, arguments)])

    model = FunctionModel(answer, window=4096, writes_summaries=False)
    agent = ToolCallingAgent([look], model, planning_interval=2, max_steps=100, store="memory://")
    assert agent.run("go").output == 1
    assert max(sizes) < 4096 * 6


def test_a_plan_counts_in_the_limits() -> None:
    model = ScriptedModel(["the plan", "```python\nfinal_answer(1)\n```"])
    agent = CodeAgent(model=model, planning_interval=1, store="memory://", limits=Limits(requests=1))
    assert agent.run("go").status is RunStatus.LIMIT
    assert len(model.requests) == 1


@pytest.mark.parametrize("interval", [0, -1, True, "2", 1.5])
def test_an_interval_that_is_none_is_refused(interval: Any) -> None:
    with pytest.raises(ConfigurationError, match="planning_interval is"):
        CodeAgent(model=ScriptedModel([]), planning_interval=interval)
