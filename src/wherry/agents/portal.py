"""The synchronous face of the asynchronous core: one event loop in one daemon thread, shared by all `run()` calls.

A thread of its own works where the caller already has a running loop, as in a notebook; and one loop for all calls
lets clients keep their connections between runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar, cast

import anyio
from anyio.from_thread import BlockingPortal

T = TypeVar("T")

_lock = threading.Lock()
_portals: dict[int, BlockingPortal] = {}
"""By process id: a forked child has its parent's objects, but not its threads."""


def call(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end, from synchronous code.

    An interrupt (Ctrl-C) cancels it, waits until it has cleaned up, and is raised again.
    """
    ended = threading.Event()

    async def whole() -> tuple[T | None, BaseException | None]:
        # Handed over as a value: a SystemExit or KeyboardInterrupt of a user's code, or a failure that is no Exception,
        # as pytest's and GeneratorExit, would end the loop of all runs.
        try:
            return await function(), None
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below
            return None, error
        finally:
            ended.set()

    future = _running().start_task_soon(whole)
    try:
        value, error = future.result()
    except BaseException:
        if not ended.is_set() and future.cancel():  # a cancelled future is done at once; its task is not
            ended.wait()
        raise
    if error is not None:
        raise error
    return cast("T", value)


def _running() -> BlockingPortal:
    with _lock:
        pid = os.getpid()
        if pid not in _portals:
            _portals[pid] = _start()
        return _portals[pid]


def _start() -> BlockingPortal:
    ready: Future[BlockingPortal] = Future()

    async def serve() -> None:
        async with BlockingPortal() as portal:
            ready.set_result(portal)
            await portal.sleep_until_stopped()

    threading.Thread(target=anyio.run, args=(serve,), name="wherry-portal", daemon=True).start()
    return ready.result()
