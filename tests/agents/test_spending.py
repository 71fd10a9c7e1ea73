"""A run spends no more than it was given, the agents that it asks included."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from wherry import (
    Cached,
    CodeAgent,
    ContextBudget,
    Fallback,
    FunctionModel,
    Limits,
    RunStatus,
    ScriptedModel,
    ToolCallingAgent,
    Usage,
    open_store,
    tool,
)
from wherry.agents import Agent
from wherry.errors import ConfigurationError, ModelError
from wherry.journal import EventType, read_events
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest, Price
from wherry.observe.costs import Costs
from wherry.policy.recovery import Recovery, use_recovery
from wherry.store import Store


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


@tool
def look(where: str) -> str:
    """Look.

    Args:
        where: at what
    """
    return f"nothing at {where}"


def calling(*names: str, usage: Usage | None = None) -> ModelReply:
    calls = [
        ToolCall(f"c{n}", name, {"where": f"{n}"} if name == "look" else {"task": f"job {n}"})
        for n, name in enumerate(names)
    ]
    return ModelReply(tool_calls=calls, usage=usage)


def reached(store: Store, run_id: str) -> list[tuple[Any, Any]]:
    return [
        (event.payload["limit"], event.payload["value"])
        for event in read_events(store, run_id)
        if event.type is EventType.LIMIT_REACHED
    ]


def test_a_run_stops_at_its_requests_and_says_so(store: Store) -> None:
    model = FunctionModel(lambda request: calling("look"))
    result = ToolCallingAgent([look], model, store=store, limits=Limits(requests=3)).run("look around")
    assert (result.status, result.output) == (RunStatus.LIMIT, None)
    assert (result.usage.requests, result.usage.tool_calls) == (3, 3)
    assert reached(store, result.run_id) == [("requests", 3)]
    assert store.run(result.run_id).status == "limit"


def test_the_limits_of_a_run_stand_in_for_the_agents(store: Store) -> None:
    model = FunctionModel(lambda request: calling("look"))
    agent = ToolCallingAgent([look], model, store=store, limits=Limits(requests=1))
    assert agent.run("look", limits=Limits(requests=5)).usage.requests == 5


def test_a_limit_of_tool_calls_holds_in_code_too(store: Store) -> None:
    code = "```python\nfor n in range(10):\n    look(str(n))\n```"
    agent = CodeAgent([look], ScriptedModel([code]), store=store, limits=Limits(tool_calls=4))
    result = agent.run("look")
    assert (result.status, result.usage.tool_calls) == (RunStatus.LIMIT, 4)
    assert reached(store, result.run_id) == [("tool_calls", 4)]


def test_a_snippet_cannot_catch_a_limit(store: Store) -> None:
    code = (
        "```python\nfor n in range(10):\n    try:\n        look(str(n))\n    except BaseException:\n        pass\n```"
    )
    agent = CodeAgent([look], ScriptedModel([code]), store=store, limits=Limits(tool_calls=4))
    result = agent.run("look")
    assert (result.status, result.usage.tool_calls) == (RunStatus.LIMIT, 4)


def test_seconds_stop_a_model_that_does_not_answer(store: Store) -> None:
    async def never(request: ModelRequest) -> str:
        await anyio.sleep_forever()
        return ""

    result = ToolCallingAgent(model=FunctionModel(never), store=store, limits=Limits(seconds=0.05)).run("wait")
    assert result.status is RunStatus.LIMIT
    assert reached(store, result.run_id) == [("seconds", 0.05)]


def test_the_outer_limit_ends_the_inner_run_too(store: Store) -> None:
    worker = ToolCallingAgent(
        [look], FunctionModel(lambda request: calling("look")), name="worker", description="Looks.", store=store
    )
    manager = ToolCallingAgent(
        model=FunctionModel(lambda request: calling("worker")),
        managed_agents=[worker],
        store=store,
        limits=Limits(requests=4),
    )
    result = manager.run("go")
    assert (result.status, result.usage.requests) == (RunStatus.LIMIT, 4)
    assert reached(store, result.run_id) == [("requests", 4)]
    child = next(e for e in read_events(store, result.run_id) if e.type is EventType.AGENT_RETURNED)
    assert child.payload["status"] == "limit"
    assert reached(store, child.payload["run_id"]) == []


def test_an_inner_limit_ends_the_inner_run_only(store: Store) -> None:
    worker = ToolCallingAgent(
        [look],
        FunctionModel(lambda request: calling("look")),
        name="worker",
        description="Looks.",
        limits=Limits(requests=2),
    )
    model = ScriptedModel([calling("worker"), "done"])
    result = ToolCallingAgent(model=model, managed_agents=[worker], store=store).run("go")
    assert (result.status, result.output, result.usage.requests) == (RunStatus.COMPLETED, "done", 4)
    told = model.requests[-1].messages[-1].content
    assert told == "[not finished: limit: the limit of 2 requests is reached]"


def test_dollars_need_a_price(store: Store) -> None:
    model = ScriptedModel(["done"], price_key=None)
    agent = ToolCallingAgent(model=model, store=store, limits=Limits(usd=1))
    with pytest.raises(ConfigurationError, match="no price is known of the model 'scripted'"):
        agent.run("go")
    assert model.requests == []


def test_dollars_are_counted_at_the_price_that_was_told(store: Store) -> None:
    spent = Usage(requests=1, input_tokens=1000, output_tokens=10)
    model = FunctionModel(lambda request: calling("look", usage=spent), price_key=Price(input=10, output=100))
    result = ToolCallingAgent([look], model, store=store, limits=Limits(usd="0.10"), max_steps=50).run("go")
    assert result.status is RunStatus.LIMIT
    assert result.usage.usd is not None
    assert result.usage.usd <= 0.10


def test_a_summary_counts_too(store: Store) -> None:
    wrote: list[ModelRequest] = []

    def write(request: ModelRequest) -> str:
        wrote.append(request)
        return '{"facts": []}'

    budget = ContextBudget(window=3000, reserve_output=300, summarizer=FunctionModel(write))
    long = ModelReply("word " * 150, tool_calls=[ToolCall("c", "look", {"where": "x"})])
    agent = ToolCallingAgent(
        [look],
        FunctionModel(lambda request: long),
        store=store,
        context=budget,
        limits=Limits(requests=25),
        max_steps=99,
    )
    result = agent.run("go")
    assert wrote
    assert result.usage.requests == 25
    costs = Costs()
    for run_id in (result.run_id, *(row.run_id for row in store.runs(parent=result.run_id, limit=100))):
        for event in read_events(store, run_id):
            costs(event)
    assert costs.total.requests == 25


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_storm_of_agents_passes_a_limit(store: Store, seed: int) -> None:
    """Runs of five agents each, all at once; random costs, failures and cancellations."""
    chance = random.Random(seed)
    sent = dict.fromkeys(range(40), 0)
    most = {run: chance.randrange(1, 25) for run in sent}

    def team(run: int) -> Agent:
        async def answer(request: ModelRequest) -> ModelReply | str:
            sent[run] += 1
            for _ in range(chance.randrange(5)):
                await anyio.lowlevel.checkpoint()
            if chance.random() < 0.1:
                raise ModelError("bad luck", kind="BadRequest")
            usage = Usage(requests=1, input_tokens=chance.randrange(400), output_tokens=chance.randrange(100))
            return calling("look", usage=usage) if chance.random() < 0.7 else "done"

        workers = [
            ToolCallingAgent([look], FunctionModel(answer), name=f"w{n}", description="Works.", max_steps=6)
            for n in range(4)
        ]

        def lead(request: ModelRequest) -> ModelReply:
            sent[run] += 1
            return calling(*(worker.name or "" for worker in workers))

        return ToolCallingAgent(model=FunctionModel(lead), managed_agents=workers, store=store, max_steps=5)

    async def one(run: int) -> None:
        with anyio.move_on_after(0.5 if chance.random() < 0.2 else None):
            try:
                result = await team(run).arun("go", limits=Limits(requests=most[run]))
            except ModelError:
                return
            assert result.usage.requests <= most[run]

    async def main() -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for run in sent:
                    group.start_soon(one, run)

    anyio.run(main)
    assert all(sent[run] <= most[run] for run in sent)
    assert any(sent[run] == most[run] for run in sent)


@pytest.mark.parametrize("reply", [ModelReply(None), ModelReply("x", usage=Usage(1, None, 0, None))])  # pyright: ignore[reportArgumentType]
def test_a_broken_reply_leaves_nothing_set_aside(store: Store, reply: ModelReply) -> None:
    def worker(name: str) -> Agent:
        model = FunctionModel(lambda request: reply if name == "w0" else "done")
        return ToolCallingAgent(model=model, name=name, description="Works.")

    workers = [worker(f"w{n}") for n in range(3)]
    model = ScriptedModel([calling("w0", "w1", "w2"), "done"])
    manager = ToolCallingAgent(model=model, managed_agents=workers, store=store, limits=Limits(requests=5))

    async def main() -> None:
        with anyio.fail_after(20):
            try:
                result = await manager.arun("go")
            except Exception:
                return
            assert result.usage.requests <= 5

    anyio.run(main)


@pytest.mark.parametrize("where", ["layer", "summarizer", "managed"])
def test_dollars_need_the_price_of_every_model(store: Store, where: str) -> None:
    priced = FunctionModel(lambda request: "done", price_key=Price(input=1, output=1))
    unpriced = FunctionModel(lambda request: "done", price_key=None, name="nobody knows")
    workers = [ToolCallingAgent(model=unpriced, name="w", description="Works.")] if where == "managed" else []
    agent = ToolCallingAgent(
        model=Cached(Fallback(priced, unpriced)) if where == "layer" else priced,
        managed_agents=workers,
        context=ContextBudget(summarizer=unpriced) if where == "summarizer" else None,
        store=store,
        limits=Limits(usd=1),
    )
    with pytest.raises(ConfigurationError, match="nobody knows"):
        agent.run("go")


def test_calls_of_tools_that_are_not_there_count(store: Store) -> None:
    result = ToolCallingAgent(
        model=FunctionModel(lambda request: calling("nothing")), store=store, limits=Limits(tool_calls=3)
    ).run("go")
    assert (result.status, result.usage.tool_calls) == (RunStatus.LIMIT, 3)


def test_usage_below_nothing_gives_nothing_back(store: Store) -> None:
    spent = Usage(1, -1000, 0, -1000)
    model = FunctionModel(lambda request: calling("look", usage=spent))
    result = ToolCallingAgent([look], model, store=store, limits=Limits(requests=3)).run("go")
    assert (result.usage.input_tokens, result.usage.output_tokens) == (0, 0)


def test_the_result_says_why_it_ended(store: Store) -> None:
    model = FunctionModel(lambda request: calling("look"))
    assert ToolCallingAgent([look], model, store=store, limits=Limits(requests=2)).run("x").reason == (
        "the limit of 2 requests is reached"
    )
    assert ToolCallingAgent([look], model, store=store, max_steps=2).run("x").reason == "max_steps=2 is reached"


def test_a_refused_summary_is_a_request_and_nothing_more(store: Store) -> None:
    refusals: list[ModelRequest] = []

    def refuse(request: ModelRequest) -> str:
        refusals.append(request)
        raise ModelError("no", kind="BadRequest")

    said = Usage(requests=1, input_tokens=100, output_tokens=10)
    long = ModelReply("word " * 150, tool_calls=[ToolCall("c", "look", {"where": "x"})], usage=said)
    budget = ContextBudget(window=3000, reserve_output=300, summarizer=FunctionModel(refuse))
    agent = ToolCallingAgent([look], FunctionModel(lambda request: long), store=store, context=budget)
    result = agent.run("go", limits=Limits(output_tokens=1000), max_steps=30)
    assert refusals
    # The run's own replies alone: 30 steps and the last word, 10 tokens each.
    assert (result.status, result.usage.output_tokens) == (RunStatus.MAX_STEPS, 310)
    assert result.usage.requests == 31 + len(refusals)


def test_what_a_lost_request_cost_is_not_claimed_to_be_known(store: Store) -> None:
    model = ScriptedModel([ModelError("late", kind="Timeout"), "done"], price_key=Price(input=1, output=1))
    with use_recovery(Recovery(first_wait=0.001)):
        result = ToolCallingAgent(model=model, store=store).run("go")
    assert (result.output, result.usage.requests, result.usage.usd) == ("done", 2, None)
