"""How a tool is called: checks, threads, timeouts, errors."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import MissingExtra, ToolArgumentError, ToolError, ToolTimeout
from wherry.tools import Tool, ToolContext, current_context, tool, use_context

pytestmark = pytest.mark.anyio


no_arguments: dict[str, Any] = {}


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@tool
def describe(count: int, text: str = "x", way: Literal["up", "down"] = "up", point: Point | None = None) -> Any:
    """Give the arguments back."""
    return count, text, way, point


async def test_arguments_become_what_the_function_wants() -> None:
    assert await describe.call({"count": "3", "text": 5, "point": {"x": 1.0}}) == (3, "5", "up", Point(1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (no_arguments, ["`count` is missing"]),
        ({"count": "many"}, ["`count`", "integer", "'many'"]),
        ({"count": 1.5}, ["`count`", "integer"]),
        ({"count": 1, "way": "left"}, ["`way`", "'up' or 'down'", "'left'"]),
        ({"count": 1, "number": 2}, ["no argument `number`", "`count`", "`way`"]),
        ({"count": 1, "point": {"x": []}}, ["`point.x`", "integer"]),
        ({"count": None}, ["`count`", "None"]),
    ],
)
async def test_what_is_wrong_with_arguments_is_said_briefly(arguments: Mapping[str, Any], words: list[str]) -> None:
    with pytest.raises(ToolArgumentError) as caught:
        await describe.call(arguments)
    for word in ["`describe` was not called", *words]:
        assert word in caught.value.message
    assert len(caught.value.message) < 400


async def test_a_large_wrong_argument_makes_a_small_message() -> None:
    wrong = {"count": "z" * 1_000_000, **{f"no_{n}": "y" * 1_000_000 for n in range(100)}}
    with pytest.raises(ToolArgumentError) as caught:
        await describe.call(wrong)
    assert len(caught.value.message) < 1_500
    assert "more" in caught.value.message


async def test_an_argument_nested_too_deeply_is_an_argument_error() -> None:
    @tool
    def take(value: dict[str, Any]) -> int:
        """Take a value."""
        return len(value)

    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert await take.call({"value": deep}) == 1, "what is not looked into is passed on"


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["count", "text", "way", "point", "other"]) | st.text(max_size=3),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=3),
        max_size=4,
    )
)
def test_any_arguments_are_taken_or_refused(arguments: dict[str, Any]) -> None:
    messages: list[str] = []

    async def call() -> None:
        try:
            await describe.call(arguments)
        except ToolArgumentError as error:
            messages.append(error.message)

    asyncio.run(call())
    assert all(len(message.encode()) < 4_000 for message in messages)


def test_bind_names_positional_arguments() -> None:
    assert describe.bind([1, "a"], {"way": "down"}) == {"count": 1, "text": "a", "way": "down"}
    with pytest.raises(ToolArgumentError, match="takes 4 arguments"):
        describe.bind([1, 2, 3, 4, 5], {})
    with pytest.raises(ToolArgumentError, match="`count` was given twice"):
        describe.bind([1], {"count": 2})


async def test_positional_only_parameters() -> None:
    @tool
    def power(base: int, exponent: int = 2, modulus: int = 1000, /) -> int:
        """Raise."""
        return pow(base, exponent, modulus)

    assert await power.call({"base": 3}) == 9
    assert await power.call({"base": 3, "modulus": 5}) == 4, "one left out before one given has its default"


async def test_names_that_pydantic_has_for_itself() -> None:
    @tool
    def odd(schema: str, _private: int, model_config: str, json: bool = False) -> Any:
        """Take odd names."""
        return schema, _private, model_config, json

    assert await odd.call({"schema": "s", "_private": 1, "model_config": "c"}) == ("s", 1, "c", False)


async def test_sync_tools_run_in_threads_side_by_side() -> None:
    barrier = threading.Barrier(4, timeout=10)

    @tool
    def meet() -> str:
        """Wait for the others."""
        barrier.wait()
        return threading.current_thread().name

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(meet.call, no_arguments)
    assert not barrier.broken


async def test_async_tools_run_in_the_event_loop() -> None:
    @tool
    async def where() -> int:
        """Say which thread."""
        return threading.get_ident()

    assert await where.call({}) == threading.get_ident()


async def test_a_plain_function_that_gives_an_awaitable() -> None:
    async def later(x: int) -> int:
        return x + 1

    def relay(x: int) -> Awaitable[int]:
        return later(x)

    assert await tool(relay, description="Relay.").call({"x": 1}) == 2


async def test_context_variables_reach_threads_and_concurrent_runs_see_their_own() -> None:
    variable: ContextVar[str] = ContextVar("variable")

    @tool
    def look() -> str:
        """Look."""
        return variable.get() + current_context().run_id

    seen: list[str] = []

    async def one(name: str) -> None:
        variable.set(name)
        with use_context(ToolContext(name, "agent", None, Any)):  # pyright: ignore[reportArgumentType]
            seen.append(await look.call({}))

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(one, str(n))
    assert sorted(seen) == ["00", "11", "22", "33", "44"]


def test_without_a_run_there_is_no_context() -> None:
    with pytest.raises(ToolError, match="inside a run"):
        current_context()


def never() -> None:
    threading.Event().wait()


async def never_async() -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("function", [never, never_async])
async def test_a_tool_that_never_returns_is_given_up(function: Callable[[], Any]) -> None:
    slow = tool(function, description="Never returns.", timeout=0.05)
    with pytest.raises(ToolTimeout, match=r"did not return within 0\.05 s"):
        await slow.call({})


@pytest.mark.parametrize("function", [never, never_async])
async def test_a_cancelled_call_ends_at_once(function: Callable[[], Any]) -> None:
    slow = tool(function, description="Never returns.", timeout=None)
    with anyio.move_on_after(0.05) as scope:
        await slow.call({})
    assert scope.cancelled_caught


def test_a_tool_that_never_returns_does_not_keep_the_program_alive() -> None:
    program = """
import asyncio, threading
from wherry.errors import MissingExtra, ToolTimeout
from wherry.tools import tool
slow = tool(lambda: threading.Event().wait(), name="slow", description="Never returns.", timeout=0.05)
try:
    asyncio.run(slow.call({}))
except ToolTimeout:
    print("gave up")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    assert (done.stdout, done.stderr) == ("gave up\n", "")


async def test_a_late_result_is_dropped_quietly() -> None:
    release, finished = threading.Event(), threading.Event()

    def work() -> str:
        release.wait(10)
        finished.set()
        return "late"

    with pytest.raises(ToolTimeout):
        await tool(work, description="Late.", timeout=0.01).call({})
    release.set()
    await anyio.to_thread.run_sync(finished.wait)
    assert await tool(lambda: 1, name="next", description="Next.").call({}) == 1


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def raising_async(error: BaseException) -> Callable[[], Awaitable[Any]]:
    async def fail() -> Any:
        raise error

    return fail


async def test_an_error_of_wherry_itself_is_not_the_models() -> None:
    error = MissingExtra("search", "web")
    with pytest.raises(MissingExtra) as caught:
        await tool(raising(error), name="f", description="Fails.").call({})
    assert caught.value is error


@pytest.mark.parametrize("make", [raising, raising_async])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such city"), "ValueError: no such city"),
        (KeyError("a"), "KeyError: 'a'"),
        (RuntimeError(), "RuntimeError"),
        (SystemExit(3), "SystemExit: 3"),
        (TimeoutError("its own"), "TimeoutError: its own"),
        (Rude(), "Rude: (its message cannot be had)"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
async def test_what_a_tool_raises_becomes_an_error_for_the_model(
    make: Callable[[BaseException], Callable[[], Any]], error: BaseException, message: str
) -> None:
    with pytest.raises(ToolError) as caught:
        await tool(make(error), name="f", description="Fails.").call({})
    assert caught.value.message == message
    assert caught.value.__cause__ is error


async def test_stop_iteration_in_a_thread() -> None:
    with pytest.raises(ToolError, match="StopIteration"):
        await tool(raising(StopIteration()), name="f", description="Fails.").call({})


async def test_a_long_error_is_cut() -> None:
    with pytest.raises(ToolError) as caught:
        await tool(raising(ValueError("x" * 1_000_000)), name="f", description="Fails.").call({})
    assert len(caught.value.message) == 2_000


async def test_a_tools_own_tool_error_is_not_changed() -> None:
    error = ToolError("say it so", hint="as it is")
    with pytest.raises(ToolError) as caught:
        await tool(raising(error), name="f", description="Fails.").call({})
    assert caught.value is error


async def test_ctrl_c_in_a_tool_is_not_swallowed() -> None:
    # In an async tool the loop itself would end; in a thread it comes to whoever waits.
    with pytest.raises(KeyboardInterrupt):
        await tool(raising(KeyboardInterrupt()), name="f", description="Fails.").call({})


async def test_a_result_of_50_mb_comes_back_whole() -> None:
    large = await tool(lambda: "x" * 50_000_000, name="large", description="Large.").call({})
    assert len(large) == 50_000_000


async def test_setup_is_called_once_before_the_first_call() -> None:
    class Loading(Tool):
        name = "loading"
        description = "Loads first."
        loads = 0

        def setup(self) -> None:
            self.loads += 1

        def forward(self) -> int:
            return self.loads

    one = Loading()
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(one.call, no_arguments)
    assert await one.call({}) == 1


async def test_a_set_up_may_call_another_tool() -> None:
    class Inner(Tool):
        name = "inner"
        description = "Inner."
        ready = False

        def setup(self) -> None:
            self.ready = True

        def forward(self) -> bool:
            return self.ready

    class Outer(Inner):
        name = "outer"

        def setup(self) -> None:
            self.ready = Inner()()

    assert await Outer().call({}) is True


async def test_declared_inputs_are_checked() -> None:
    class Choose(Tool):
        name = "choose"
        description = "Choose."
        inputs = {
            "which": {"type": "string", "enum": ["a", "b"]},
            "count": {"type": "integer", "nullable": True},
            "rest": {"type": "any", "nullable": True},
        }
        output_type = "any"

        def forward(self, which, count=7, rest=None):  # pyright: ignore  # as smolagents allows it, without hints
            return which, count, rest  # pyright: ignore

    one = Choose()
    assert await one.call({"which": "a"}) == ("a", 7, None)
    assert await one.call({"which": "b", "count": "2", "rest": [1]}) == ("b", 2, [1])
    with pytest.raises(ToolArgumentError, match="'a' or 'b'"):
        await one.call({"which": "c"})
