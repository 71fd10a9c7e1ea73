"""Replies that are told piece by piece, to those who want to watch them come."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from wherry.errors import ModelError
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
