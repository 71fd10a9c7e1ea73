"""Replies that are told piece by piece, to those who want to watch them come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from wherry.errors import ModelError
from wherry.journal import Event, Subscriber
from wherry.models import FailureKind, Model, ModelReply, ModelRequest
from wherry.models.call import deltas_of

_wanted: ContextVar[bool] = ContextVar("wherry_streaming", default=False)


def deltas_wanted() -> bool:
    """Whether somebody watches the replies of what runs here."""
    return _wanted.get()


@contextmanager
def streaming(wanted: bool = True) -> Generator[None]:
    """Let replies be streamed by all that runs inside, and their pieces told as `model.delta` events."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


class Going(Protocol):
    """A run, once it is told who wants to hear of it."""

    def __call__(self, *, subscribers: Sequence[Subscriber]) -> Coroutine[Any, Any, object]: ...


async def told(run: Going, *, deltas: bool) -> AsyncGenerator[Event]:
    """The events of a run as they happen. It is cancelled when nobody waits for them any more.

    Raises:
        WherryError: what ended the run, after its last event.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    with streaming(deltas):  # the task takes it along
        running = asyncio.create_task(run(subscribers=(events.put_nowait,)))
    running.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await running
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait([running])


async def streamed(model: Model, request: ModelRequest, tell: Callable[[str], None]) -> ModelReply:
    """The whole reply, told piece by piece.

    Raises:
        ModelError: The stream failed, or ended without a whole reply.
    """
    reply: ModelReply | None = None
    async with deltas_of(model, request) as deltas:
        async for delta in deltas:
            if delta.text:
                tell(delta.text)
            if delta.reply is not None:
                reply = delta.reply
    if reply is None:
        raise ModelError(
            f"the stream of {model.profile.name} ended without a whole reply", kind=FailureKind.ConnectionLost
        )
    return reply
