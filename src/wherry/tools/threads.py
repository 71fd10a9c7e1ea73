"""Threads for tools that are plain functions.

Not `anyio.to_thread`, for two reasons. Its threads are waited for when the interpreter exits, so one tool that never
returns would hang the program for ever; these are daemons. And a call through it costs 162 us of CPU, through this
97 us (CPython 3.11, 2 cores, November 2026): no limiter, no cancel scope, one queue a thread.

There is no upper limit of threads: with one, a tool that runs an agent whose tools need threads could wait for itself.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

KEPT = 16
"""Idle threads that wait for the next call; more than that end."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a function gave. Not the future's own exception: a future cannot hold a StopIteration."""

    value: object = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[[], object]
    context: Context
    loop: asyncio.AbstractEventLoop
    outcome: asyncio.Future[_Outcome]


class _Worker(Thread):
    """One daemon thread that does job after job."""

    def __init__(self) -> None:
        super().__init__(name="wherry-tool", daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()

    def run(self) -> None:
        while True:
            self._do(self.jobs.get())
            if len(_idle) >= KEPT:
                return
            _idle.append(self)

    def _do(self, job: _Job) -> None:
        try:
            outcome = _Outcome(job.context.run(job.function))
        except BaseException as error:  # noqa: BLE001  everything goes to the caller, KeyboardInterrupt too
            outcome = _Outcome(error=error)
        try:
            job.loop.call_soon_threadsafe(_deliver, job.outcome, outcome)
        except RuntimeError:
            # The loop was closed: nobody waits for this outcome any more.
            return


_idle: deque[_Worker] = deque()
# A forked child has the objects of these threads, not the threads.
os.register_at_fork(after_in_child=_idle.clear)


def _deliver(future: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _expire(future: asyncio.Future[_Outcome]) -> None:
    if not future.done():
        future.set_exception(OutOfTimeError())


class OutOfTimeError(Exception):
    """The function did not return in time. It goes on in its thread; what it returns is dropped."""


async def run_in_thread(function: Callable[[], object], *, timeout: float | None) -> object:  # noqa: ASYNC109 - the time is the thread's, which no scope can cancel
    """Call `function` in a thread, with the caller's context variables, and wait for what it gives.

    A cancelled wait ends at once; the thread is left to itself.

    Raises:
        OutOfTimeError: It took longer than `timeout` seconds.
        RuntimeError: The system gives no more threads.
        BaseException: Whatever the function raised.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Outcome] = loop.create_future()
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.start()
    worker.jobs.put(_Job(function, copy_context(), loop, future))
    timer = None if timeout is None else loop.call_later(timeout, _expire, future)
    try:
        outcome = await future
    finally:
        if timer is not None:
            timer.cancel()
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
