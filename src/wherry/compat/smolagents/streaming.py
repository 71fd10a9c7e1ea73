"""A run as seen from the thread that asked for it.

The run itself is played by wherry's event loop. What it has to tell (steps, callbacks, what is printed) happens in the
thread of whoever called `run`, as there: callbacks may use what belongs to that thread. The run goes on when a step has
been taken and the next is asked for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar, cast

from wherry.agents import portal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Item:
    value: object
    taken: Callable[[], object] | None = None
    """Called when the next one is wanted."""


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[[], object]
    done: Callable[[object, BaseException | None], object]


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


class Caller:
    """The thread that wants to hear of a run."""

    def __init__(self) -> None:
        self._items: SimpleQueue[_Item | _Job | _End] = SimpleQueue()

    def emit(self, value: object) -> None:
        """Give something to the stream, and go on."""
        self._items.put(_Item(value))

    async def hand_over(self, value: object) -> None:
        """Give something to the stream, and wait until the next thing is asked for."""
        loop, taken = asyncio.get_running_loop(), asyncio.Event()
        self._items.put(_Item(value, lambda: loop.call_soon_threadsafe(taken.set)))
        await taken.wait()

    async def do(self, function: Callable[[], T]) -> T:
        """Call a function there, and give what it gives."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[object] = loop.create_future()

        def settle(value: object, error: BaseException | None) -> None:
            if result.done():
                return  # the run was cancelled meanwhile
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)

        self._items.put(_Job(function, lambda value, error: loop.call_soon_threadsafe(settle, value, error)))
        return cast("T", await result)

    def steps(self, start: Callable[[], Awaitable[object]], stop: Callable[[], object]) -> Generator[object]:
        """What a run gives.

        Args:
            start: the whole run.
            stop: ends it, when nobody wants to hear any more.
        """

        def play() -> None:
            error: BaseException | None = None
            try:
                portal.call(start)
            except BaseException as raised:  # noqa: BLE001 - raised again where the steps are wanted
                error = raised
            self._items.put(_End(error))

        context = copy_context()
        thread = threading.Thread(target=context.run, args=(play,), name="wherry-steps", daemon=True)
        thread.start()
        ended = False
        try:
            while True:
                item = self._items.get()
                if isinstance(item, _Job):
                    _do(item)
                elif isinstance(item, _Item):
                    yield item.value
                    if item.taken is not None:
                        item.taken()
                else:
                    ended = True
                    if item.error is not None:
                        raise item.error
                    return
        finally:
            if not ended:
                stop()
                thread.join(timeout=30)


def _do(job: _Job) -> None:
    try:
        value = job.function()
    except BaseException as error:
        job.done(None, _carried(error))
        if not isinstance(error, Exception):
            raise
    else:
        job.done(value, None)


def _carried(error: BaseException) -> BaseException:
    """A future cannot hold a StopIteration, and one of an interrupt would end the loop of all runs."""
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
