"""What a run may spend is kept exactly, however many agents are at work."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import ConfigurationError, LimitReached
from wherry.messages import Usage
from wherry.policy import Account, Limits, Reservation


def free(input_tokens: int, output_tokens: int) -> Decimal:
    return Decimal(0)


def dear(input_tokens: int, output_tokens: int) -> Decimal:
    return Decimal(input_tokens) / 1000 + Decimal(output_tokens) / 250


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (partial(Limits, requests=-1), "requests is -1"),
        (partial(Limits, requests=True), "requests is True"),
        (partial(Limits, tool_calls=-2), "tool_calls is -2"),
        (partial(Limits, seconds=0), "seconds is 0"),
        (partial(Limits, seconds=float("inf")), "seconds is inf"),
        (partial(Limits, usd="a lot"), "usd is 'a lot'"),
        (partial(Limits, usd=float("nan")), "usd is nan"),
        (partial(Limits, usd=-1), "usd is -1"),
    ],
)
def test_a_limit_that_is_none_is_refused(limits: Callable[[], Limits], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        limits()


def test_dollars_are_what_was_written() -> None:
    assert Limits(usd=0.1).dollars == Decimal("0.1")
    assert Limits(usd="0.30").dollars == Decimal("0.30")
    assert Limits().dollars is None


def test_a_limit_of_nine_requests_makes_nine() -> None:
    made = 0

    async def agent(account: Account, refused: list[LimitReached]) -> None:
        nonlocal made
        for _ in range(5):
            try:
                reservation = await account.reserve(10, 10, free)
            except LimitReached as reached:
                refused.append(reached)
                return
            made += 1
            await anyio.lowlevel.checkpoint()
            reservation.settle(Usage(requests=1, input_tokens=10, output_tokens=3))

    async def main() -> None:
        root = Account(Limits(requests=9), run_id="root")
        refused: list[LimitReached] = []
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(agent, Account(parent=root), refused)
        assert made == 9
        assert root.usage.requests == 9
        assert {(reached.limit, reached.owner) for reached in refused} == {("requests", "root")}

    anyio.run(main)


def test_the_outermost_limit_speaks_first() -> None:
    async def main() -> None:
        root = Account(Limits(requests=1), run_id="root")
        leaf = Account(Limits(requests=1), run_id="leaf", parent=root)
        (await leaf.reserve(1, 1, free)).settle(Usage(requests=1))
        with pytest.raises(LimitReached) as caught:
            await leaf.reserve(1, 1, free)
        assert caught.value.owner == "root"

    anyio.run(main)


def test_an_inner_limit_does_not_stop_its_siblings() -> None:
    async def main() -> None:
        root = Account(Limits(requests=3), run_id="root")
        one, other = (Account(Limits(requests=1), run_id=name, parent=root) for name in ("one", "other"))
        (await one.reserve(1, 1, free)).settle(Usage(requests=1))
        with pytest.raises(LimitReached) as caught:
            await one.reserve(1, 1, free)
        assert caught.value.owner == "one"
        (await other.reserve(1, 1, free)).settle(Usage(requests=1))
        assert root.usage.requests == 2

    anyio.run(main)


def test_the_last_reply_gets_the_output_that_is_left() -> None:
    async def main() -> None:
        root = Account(Limits(output_tokens=100))
        first = await root.reserve(10, 80, free)
        assert first.max_output == 80
        first.settle(Usage(requests=1, output_tokens=60))
        second = await root.reserve(10, 80, free)
        assert second.max_output == 40
        second.settle(Usage(requests=1, output_tokens=40))
        with pytest.raises(LimitReached, match="output_tokens"):
            await root.reserve(10, 80, free)

    anyio.run(main)


def test_money_buys_as_much_output_as_it_pays_for() -> None:
    async def main() -> None:
        root = Account(Limits(usd="1.00"))
        reservation = await root.reserve(500, 1000, dear)
        assert reservation.max_output == 125
        assert reservation.need.usd == Decimal("1.00")
        reservation.settle(Usage(requests=1, usd=Decimal("0.99")))
        with pytest.raises(LimitReached, match="usd"):
            await root.reserve(500, 1000, dear)

    anyio.run(main)


def test_a_call_waits_for_one_under_way_that_alone_stands_in_its_way() -> None:
    async def main() -> None:
        root = Account(Limits(output_tokens=100))
        first = await root.reserve(1, 80, free)
        order: list[str] = []

        async def second() -> None:
            reservation = await root.reserve(1, 80, free)
            order.append("second")
            reservation.settle(Usage(requests=1, output_tokens=1))

        async with anyio.create_task_group() as group:
            group.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            order.append("first")
            first.settle(Usage(requests=1, output_tokens=10))
        assert order == ["first", "second"]

    anyio.run(main)


def test_a_lost_call_counts_whole_against_the_limit_and_as_known_in_the_usage() -> None:
    async def main() -> None:
        root = Account(Limits(output_tokens=100))
        (await root.reserve(1, 90, free)).lose(Usage(requests=1))
        assert root.usage == Usage(requests=1)
        with pytest.raises(LimitReached):
            await root.reserve(1, 90, free)

    anyio.run(main)


def test_tool_calls_are_counted_before_they_are_made() -> None:
    root = Account(Limits(tool_calls=2), run_id="root")
    leaf = Account(parent=root)
    leaf.count_tool_call()
    leaf.count_tool_call()
    with pytest.raises(LimitReached, match="2 tool_calls"):
        leaf.count_tool_call()
    assert root.usage.tool_calls == 2


def test_what_was_spent_before_an_interruption_counts() -> None:
    async def main() -> None:
        account = Account(Limits(requests=2))
        account.restore(Usage(requests=2))
        with pytest.raises(LimitReached):
            await account.reserve(1, 1, free)

    anyio.run(main)


amounts = st.one_of(st.none(), st.integers(0, 60))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    limits=st.builds(
        Limits,
        requests=amounts,
        input_tokens=st.one_of(st.none(), st.integers(0, 3_000)),
        output_tokens=st.one_of(st.none(), st.integers(0, 1_500)),
        usd=st.one_of(st.none(), st.decimals(0, 20, places=2)),
    ),
    inner=st.builds(Limits, requests=amounts, output_tokens=st.one_of(st.none(), st.integers(0, 400))),
    seed=st.integers(0, 1 << 32),
)
def test_no_mixture_of_agents_failures_and_cancellations_passes_a_limit(
    limits: Limits, inner: Limits, seed: int
) -> None:
    chance = random.Random(seed)

    async def agent(account: Account, sent: list[Reservation]) -> None:
        for _ in range(8):
            try:
                reservation = await account.reserve(chance.randrange(200), chance.randrange(1, 120), dear)
            except LimitReached:
                return
            sent.append(reservation)
            used = Usage(
                1,
                reservation.need.input_tokens,
                0,
                written := chance.randrange(reservation.max_output + 1),
                usd=dear(reservation.need.input_tokens, written),
            )
            try:
                for _ in range(chance.randrange(4)):
                    await anyio.lowlevel.checkpoint()
            except BaseException:
                reservation.lose(Usage(requests=1))
                raise
            ending = chance.randrange(6)
            if ending == 0:
                reservation.release()
                sent.remove(reservation)
            elif ending == 1:
                reservation.lose(Usage(requests=1))
            else:
                reservation.settle(used)
                reservation.lose(used)  # a second end is without effect

    async def run(root: Account, sent: list[Reservation]) -> None:
        account = Account(inner, run_id="inner", parent=root)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(agent, Account(parent=account), sent)
                if chance.random() < 0.3:
                    for _ in range(chance.randrange(6)):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

    async def main() -> None:
        root = Account(limits, run_id="root")
        everything: list[Reservation] = []
        with anyio.fail_after(20):  # no waiter is forgotten
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(run, root, everything)
        total = root.usage
        assert limits.requests is None or len(everything) <= limits.requests
        assert limits.requests is None or total.requests <= limits.requests
        assert limits.input_tokens is None or total.input_tokens <= limits.input_tokens
        assert limits.output_tokens is None or total.output_tokens <= limits.output_tokens
        assert limits.dollars is None or (total.usd or 0) <= limits.dollars
        # Nothing is set aside for calls that are over: whatever is left of a limit can be had by one call.
        with anyio.fail_after(5), suppress(LimitReached):
            (await root.reserve(0, 1, free)).release()

    anyio.run(main)
