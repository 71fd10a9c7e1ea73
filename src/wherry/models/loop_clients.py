"""One HTTP client for each event loop that a model is used in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    async def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class LoopClients(Generic[T]):
    """Makes a client for the running loop when it is first asked for, and closes it when that loop ends.

    A client's connections belong to the loop that opened them; used from another one they hang or fail. A program may
    well have several loops: one per `agent.run`, one per test.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lives: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}

    async def get(self) -> T:
        loop = asyncio.get_running_loop()
        if (found := self._lives.get(loop)) is not None:
            return found[0]
        for other in [other for other in list(self._lives) if other.is_closed()]:
            self._lives.pop(other, None)  # closed without shutdown_asyncgens: nothing can be awaited there any more
        client = self._make()
        life = _closing(client, lambda: self._lives.pop(loop, None))
        self._lives[loop] = (client, life)
        await anext(life)
        return client

    async def aclose(self) -> None:
        """Close the running loop's client, if it has one."""
        if (found := self._lives.pop(asyncio.get_running_loop(), None)) is not None:
            await found[1].aclose()


async def _closing(client: Closable, forget: Callable[[], object]) -> AsyncGenerator[None, None]:
    """Closes the client when it is closed itself.

    An async generator that is still open is closed by `loop.shutdown_asyncgens()`, which asyncio.run, anyio.run and
    every other runner call before they close the loop: the one hook that a library has there.
    """
    try:
        yield
    finally:
        forget()
        await client.close()
