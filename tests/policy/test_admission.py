"""How many requests a server gets at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import FunctionModel, ToolCallingAgent, open_store
from wherry.errors import ContextBudgetError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.models.gate import Gate
from wherry.policy.admission import Backend, backend_of

T = TypeVar("T")


def run(fn: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await fn()

    return anyio.run(main)


async def turn() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_fits_goes_through_at_once() -> None:
    async def main() -> None:
        gate = Gate(100)
        await gate.enter(60)
        await gate.enter(40)
        assert (gate.in_flight, gate.requests, gate.waiting) == (100, 2, 0)
        gate.leave(60)
        gate.leave(40)
        assert (gate.in_flight, gate.requests) == (0, 0)

    run(main)


def test_a_request_larger_than_the_whole_is_refused_at_once() -> None:
    async def main() -> None:
        gate = Gate(100)
        await gate.enter(100)
        with pytest.raises(ContextBudgetError, match="101 tokens"):
            await gate.enter(101)

    run(main)


def test_nothing_overtakes_a_large_request() -> None:
    async def main() -> list[str]:
        gate = Gate(100)
        order: list[str] = []

        async def request(name: str, tokens: int) -> None:
            await gate.enter(tokens)
            order.append(name)

        await gate.enter(50)
        tasks = [asyncio.create_task(request("large", 90)), asyncio.create_task(request("small", 10))]
        await turn()
        assert order == []
        gate.leave(50)
        await asyncio.gather(*tasks)
        return order

    assert run(main) == ["large", "small"]


def test_owners_take_turns() -> None:
    async def main() -> list[str]:
        gate = Gate(places=1)
        order: list[str] = []

        async def request(owner: str) -> None:
            await gate.enter(1, owner)
            order.append(owner)
            await asyncio.sleep(0)
            gate.leave(1)

        await gate.enter(1, "x")
        tasks = [asyncio.create_task(request(owner)) for owner in "aaaabbc"]
        await turn()
        gate.leave(1)
        await asyncio.gather(*tasks)
        return order

    assert "".join(run(main)) == "abcabaa"


def test_cancelling_frees_the_place() -> None:
    async def main() -> None:
        gate = Gate(100)
        await gate.enter(100)
        first = asyncio.create_task(gate.enter(100))
        second = asyncio.create_task(gate.enter(10))
        await turn()
        assert gate.waiting == 2
        first.cancel()
        await turn()
        assert gate.waiting == 1
        gate.leave(100)
        await second
        assert gate.in_flight == 10
        third = asyncio.create_task(gate.enter(95))
        await turn()
        gate.leave(10)  # admitted, and cancelled before it could know
        third.cancel()
        await turn()
        assert (gate.in_flight, gate.requests) == (0, 0)

    run(main)


def test_what_waits_goes_through_alone_when_the_whole_is_made_smaller() -> None:
    async def main() -> None:
        gate = Gate(100)
        await gate.enter(100)
        waiting = asyncio.create_task(gate.enter(80))
        await turn()
        gate.resize(50)
        gate.leave(100)
        await waiting
        assert gate.in_flight == 80

    run(main)


def test_one_gate_for_many_loops() -> None:
    gate = Gate(10)
    most: list[int] = []

    async def work() -> None:
        for _ in range(50):
            await gate.enter(4)
            most.append(gate.in_flight)
            await asyncio.sleep(0)
            gate.leave(4)

    async def several() -> None:
        await asyncio.gather(*(work() for _ in range(5)))

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert max(most) <= 10
    assert (gate.in_flight, gate.requests, gate.waiting) == (0, 0, 0)


@settings(deadline=None)
@given(
    capacity=st.integers(1, 100),
    places=st.none() | st.integers(1, 4),
    requests=st.lists(
        st.tuples(st.integers(1, 120), st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=25
    ),
)
def test_whatever_happens_the_bounds_hold_and_nobody_is_forgotten(
    capacity: int, places: int | None, requests: list[tuple[int, str, int, bool]]
) -> None:
    async def main() -> None:
        gate = Gate(capacity, places=places)

        async def request(tokens: int, owner: str, turns: int) -> None:
            await gate.enter(tokens, owner)
            try:
                assert gate.in_flight <= capacity
                assert places is None or gate.requests <= places
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                gate.leave(tokens)

        tasks: list[asyncio.Task[None]] = []
        for tokens, owner, turns, cancelled in requests:
            task = asyncio.create_task(request(tokens, owner, turns))
            tasks.append(task)
            if cancelled:
                await asyncio.sleep(0)
                tasks[len(tasks) // 2].cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        for (tokens, *_), result in zip(requests, results, strict=True):
            assert result is None or isinstance(result, asyncio.CancelledError | ContextBudgetError)
            assert tokens <= capacity or result is not None
        assert (gate.in_flight, gate.requests, gate.waiting) == (0, 0, 0)

    run(main)


# ---- backends


def test_models_of_one_server_share_what_is_known_of_it() -> None:
    one = FunctionModel(lambda r: "", name="m", backend="http://here/v1", tokens_in_flight=5000, slots=2)
    two = FunctionModel(lambda r: "", name="m", backend="http://here/v1", tokens_in_flight=5000, slots=2)
    other = FunctionModel(lambda r: "", name="m")
    assert backend_of(one, one.profile) is backend_of(two, two.profile)
    assert backend_of(other, other.profile) is not backend_of(one, one.profile)
    assert backend_of(one, one.profile).gate.capacity == 5000


@given(window=st.integers(2_000, 1_000_000), shortages=st.integers(1, 6), answers=st.integers(0, 400))
def test_a_window_is_halved_and_grows_back_slowly(window: int, shortages: int, answers: int) -> None:
    backend = Backend("m", tokens_in_flight=2 * window)
    size = window
    for _ in range(shortages):
        smaller, flight = backend.halve(size)
        assert smaller <= max(256, size // 2)
        assert flight >= smaller
        size = backend.window(window)
        assert size == smaller
    for _ in range(answers):
        before = size
        backend.answered()
        size = backend.window(window)
        assert before <= size <= before + window // 32 + 1
    if answers == 400:
        assert size == window
        assert backend.gate.capacity == 2 * window
        assert not backend.recovering


def test_a_limit_that_is_known_holds() -> None:
    backend = Backend("m")
    backend.learn(4096)
    backend.learn(8192)
    assert backend.window(32_000) == 4096
    assert backend.window(2_000) == 2_000


# ---- agents


def test_five_specialists_never_have_more_in_flight_than_the_server_takes() -> None:
    flying = 0
    most = 0

    async def answer(request: ModelRequest) -> ModelReply:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return ModelReply(tool_calls=[ToolCall("1", "final_answer", {"answer": "done"})])

    def manage(request: ModelRequest) -> ModelReply:
        if any(message.role == "tool" for message in request.messages):
            return ModelReply(tool_calls=[ToolCall("9", "final_answer", {"answer": "all"})])
        return ModelReply(tool_calls=[ToolCall(f"c{n}", f"worker_{n}", {"task": "work"}) for n in range(5)])

    server = FunctionModel(answer, window=8000, tokens_in_flight=8000, slots=1)
    store = open_store("memory://")
    workers = [ToolCallingAgent(model=server, name=f"worker_{n}", description="Works.") for n in range(5)]
    manager = ToolCallingAgent(model=FunctionModel(manage), managed_agents=workers, store=store, parallel_tools=5)
    assert manager.run("go").output == "all"
    assert most == 1
