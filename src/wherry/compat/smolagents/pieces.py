"""A reply as it comes, for programs without an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, suppress
from typing import cast

from wherry.agents import portal
from wherry.models import Model, ModelDelta, ModelRequest


def streamed(model: Model, request: ModelRequest) -> Generator[ModelDelta]:
    """The pieces of a reply. Closing the generator cancels the request.

    Raises:
        ModelError: the server failed.
    """
    # Bounded by the reply: who reads slowly does not hold the loop of all runs.
    pieces: queue.SimpleQueue[ModelDelta | BaseException | None] = queue.SimpleQueue()
    asking: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def ask() -> None:
        asking.append((asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())))
        prepare = getattr(model, "prepare", None)
        if prepare is not None:
            await prepare()
        async with aclosing(cast("AsyncGenerator[ModelDelta]", model.stream(request))) as stream:
            async for piece in stream:
                pieces.put(piece)

    def wait() -> None:
        try:
            portal.call(ask)
        except BaseException as error:  # noqa: BLE001 - raised where the pieces are read
            pieces.put(error)
        else:
            pieces.put(None)

    thread = threading.Thread(target=wait, name="wherry-pieces", daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        for loop, task in asking:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
