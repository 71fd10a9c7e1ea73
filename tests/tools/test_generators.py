"""Tools that yield: their items come as a list, as long as there is an end of them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from wherry.errors import ToolError
from wherry.tools import tool
from wherry.tools.values import MAX_GATHERED

pytestmark = pytest.mark.anyio


@tool
def countdown(n: int) -> Iterator[int]:
    """Counts down.

    Args:
        n: where to begin
    """
    yield from range(n, 0, -1)


@tool
async def slowly(n: int) -> AsyncIterator[int]:
    """Counts up.

    Args:
        n: where to end
    """
    for number in range(n):
        yield number


@tool
def lazily(n: int) -> Any:
    """Gives a generator.

    Args:
        n: how many
    """
    return (number for number in range(n))


@tool
async def later(n: int) -> Any:
    """Gives a generator, in time.

    Args:
        n: how many
    """
    return (number for number in range(n))


async def test_items_come_as_a_list() -> None:
    assert await countdown.call({"n": 3}) == [3, 2, 1]
    assert await slowly.call({"n": 3}) == [0, 1, 2]
    assert await lazily.call({"n": 2}) == [0, 1]
    assert await later.call({"n": 2}) == [0, 1]


@pytest.mark.parametrize("one", [countdown, slowly, lazily, later], ids=lambda one: one.name)
async def test_an_endless_one_is_an_error(one: Any) -> None:
    assert len(await one.call({"n": MAX_GATHERED})) == MAX_GATHERED
    with pytest.raises(ToolError, match="more than 10,000 items"):
        await one.call({"n": MAX_GATHERED + 1})


async def test_what_it_raises_on_the_way_is_told() -> None:
    @tool
    def breaks() -> Iterator[int]:
        """Breaks."""
        yield 1
        raise ValueError("broken")

    with pytest.raises(ToolError, match="broken"):
        await breaks.call({})


async def test_one_that_never_yields_is_late() -> None:
    @tool(timeout=0.1)
    async def waits() -> AsyncIterator[int]:
        """Waits."""
        import asyncio

        for number in itertools.count():
            await asyncio.Event().wait()
            yield number

    with pytest.raises(ToolError, match="did not return within"):
        await waits.call({})
