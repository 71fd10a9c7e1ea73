"""Who calls: synchronous code, or a coroutine in whose event loop a program's own coroutines have to run.

Agents are written once, as plain functions. The `a_` twin of each runs the same in a thread, from where whatever is
asynchronous (a tool, a reply function, a twin that a program has overridden) is awaited in the caller's loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, TypeVar, cast  # Any: what users' functions take and give

from wherry.agents import portal
from wherry.tools.threads import run_in_thread

T = TypeVar("T")
_DERIVED = "_wherry_derived"


class Caller:
    """A coroutine that waits for what is done in a thread on its behalf."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.gone = False
        """It was cancelled: nothing is begun for it any more."""

    def check(self) -> None:
        """
        Raises:
            CancelledError: nobody waits any more.
        """
        if self.gone:
            raise asyncio.CancelledError


_caller: ContextVar[Caller | None] = ContextVar("wherry_autogen_caller", default=None)


def asynchronous() -> bool:
    """Whether an `a_` function is under way."""
    return _caller.get() is not None


def check() -> None:
    """Stop here, if whoever wanted this was cancelled."""
    if (caller := _caller.get()) is not None:
        caller.check()


def awaited(value: Any) -> Any:
    """What an awaitable comes to: in the caller's loop, or in one of its own; any other value as it is."""
    if not inspect.isawaitable(value):
        return value

    async def whole() -> Any:
        return await value

    caller = _caller.get()
    if caller is None:
        return portal.call(whole)
    caller.check()
    return asyncio.run_coroutine_threadsafe(whole(), caller.loop).result()


def hop(agent: object, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call `agent.name`, or in an asynchronous chat `agent.a_name` where that is a program's own."""
    if asynchronous():
        twin = getattr(agent, f"a_{name}", None)
        if twin is not None and not hasattr(getattr(twin, "__func__", twin), _DERIVED):
            return awaited(twin(*args, **kwargs))
    return awaited(getattr(agent, name)(*args, **kwargs))


def twin(function: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """The asynchronous twin of a method."""
    name = function.__name__

    @wraps(function)
    async def method(self: Any, *args: Any, **kwargs: Any) -> T:
        return await run(partial(getattr(self, name), *args, **kwargs))

    method.__name__ = f"a_{name}"
    method.__qualname__ = f"{function.__qualname__.rpartition('.')[0]}.a_{name}"
    setattr(method, _DERIVED, True)
    return method


async def run(function: Callable[[], T]) -> T:
    """Run a plain function for a coroutine, in a thread; a cancel takes effect at its next step."""
    caller = Caller(asyncio.get_running_loop())

    def inside() -> Any:
        _caller.set(caller)
        return awaited(function())

    try:
        return cast("T", await run_in_thread(inside, timeout=None))
    finally:
        caller.gone = True
