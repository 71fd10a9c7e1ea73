"""Whatever is asked, decided and restarted in whatever order: approved calls are made once, denied ones never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry import CodeAgent, FunctionModel, RunStatus, ToolCallingAgent, open_store, tool
from wherry.agents import Agent
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.policy.approvals import Approval, Decision, decide
from wherry.store import Store
from wherry.tools import Tool


@dataclass(frozen=True)
class Wanted:
    """A call that the model wants, and what a person says of it."""

    number: int
    asks: bool
    approved: bool
    other: int | None
    """The amount that it is approved with instead."""


@dataclass
class World:
    """What was really done, over all processes."""

    steps: list[list[Wanted]]
    made: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    version: int = 1
    """Of the tool: another one has another schema."""

    def tools(self) -> list[Tool]:
        def pay(number: int, amount: int) -> str:
            """Pay."""
            self.made[number, amount] += 1
            return f"paid {amount}"

        def asks(arguments: Any) -> bool:
            return next(one.asks for step in self.steps for one in step if one.number == arguments["number"])

        return [tool(pay, description=f"Pay, version {self.version}.", needs_approval=asks, side_effects=True)]


wanted = st.tuples(st.booleans(), st.booleans(), st.none() | st.integers(100, 105))


@st.composite
def worlds(draw: st.DrawFn, most: int = 4) -> World:
    steps: list[list[Wanted]] = []
    number = 0
    for size in draw(st.lists(st.integers(1, most), min_size=1, max_size=3)):
        step: list[Wanted] = []
        for _ in range(size):
            step.append(Wanted(number, *draw(wanted)))
            number += 1
        steps.append(step)
    return World(steps)


def amount_of(one: Wanted) -> int:
    return 10 + one.number


def expected(world: World) -> dict[tuple[int, int], int]:
    out: dict[tuple[int, int], int] = {}
    for one in (one for step in world.steps for one in step):
        if not one.asks:
            out[one.number, amount_of(one)] = 1
        elif one.approved:
            out[one.number, amount_of(one) if one.other is None else one.other] = 1
    return out


def calling(world: World, store: Store) -> Agent:
    def answer(request: ModelRequest) -> ModelReply:
        done = sum(1 for message in request.messages if message.role == "assistant")
        if done >= len(world.steps):
            return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": "done"})])
        calls = [
            ToolCall(f"c{one.number}", "pay", {"number": one.number, "amount": amount_of(one)})
            for one in world.steps[done]
        ]
        return ModelReply(tool_calls=calls)

    return ToolCallingAgent(world.tools(), FunctionModel(answer), store=store, parallel_tools=3)


def coding(world: World, store: Store) -> Agent:
    def answer(request: ModelRequest) -> str:
        done = sum(1 for message in request.messages if message.role == "assistant")
        if done >= len(world.steps):
            return "```python\nfinal_answer('done')\n```"
        lines: list[str] = []
        for one in world.steps[done]:
            lines += [
                "try:",
                f"    pay({one.number}, {amount_of(one)})",
                "except Exception as error:",
                "    print(error)",
            ]
        text = "\n".join(lines)
        return f"```python\n{text}\n```"

    return CodeAgent(world.tools(), FunctionModel(answer), store=store)


def play(world: World, make: Callable[[World, Store], Agent], choices: st.DataObject) -> None:
    by_number = {one.number: one for step in world.steps for one in step}
    store = open_store("memory://")
    agent = make(world, store)
    result = agent.run("pay")
    asked: set[str] = set()
    rounds = 0
    while result.status is RunStatus.WAITING:
        rounds += 1
        assert rounds < 100
        asked |= {approval.id for approval in result.pending}
        some = choices.draw(st.lists(st.sampled_from(result.pending), unique_by=lambda one: one.id))
        if rounds > 10:  # nobody puts everything off for ever
            some = [*result.pending]
        decided = {one.id: decision_of(by_number[cast("int", one.arguments["number"])]) for one in some}
        change = bool(decided) and world.version < 3 and choices.draw(st.integers(0, 5)) == 0
        before = Counter(world.made)
        if change:  # the tool becomes another one after a decision: nothing was approved of it
            for id, decision in decided.items():
                decide(store, id, decision)
            world.version += 1
            result = make(world, store).resume(result.run_id)
            assert world.made == before
            assert not asked & {approval.id for approval in result.pending}
            continue
        if choices.draw(st.booleans()):
            agent = make(world, store)  # another process
        else:
            agent.tools.update({one.name: one for one in world.tools()})
        if choices.draw(st.booleans()):
            result = agent.resume(result.run_id, approvals=decided)
        else:
            for id, decision in decided.items():
                decide(store, id, decision)
            result = agent.resume(result.run_id)
        check(world, before, some, by_number)
    assert (result.status, result.output) == (RunStatus.COMPLETED, "done")
    assert world.made == expected(world)
    store.close()


def decision_of(one: Wanted) -> Decision:
    if one.approved and one.other is not None:
        return Decision(True, arguments={"number": one.number, "amount": one.other})
    return Decision(one.approved, reason="" if one.approved else "no")


def check(
    world: World, before: Counter[tuple[int, int]], some: Sequence[Approval], by_number: dict[int, Wanted]
) -> None:
    """What needs a person's word was made only if it was given now."""
    new = world.made - before
    allowed = {cast("int", one.arguments["number"]) for one in some}
    for number, _ in new:
        assert not by_number[number].asks or (number in allowed and by_number[number].approved)
    assert all(count == 1 for count in world.made.values())


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.data())
def test_random_approvals_of_a_tool_calling_agent(world: World, choices: st.DataObject) -> None:
    play(world, calling, choices)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(most=3), st.data())
def test_random_approvals_inside_code(world: World, choices: st.DataObject) -> None:
    play(world, coding, choices)
