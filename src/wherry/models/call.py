"""The question that a request is part of: what a layer around a model may know of it, and tell of itself.

A question is what an agent asks; it may take several requests until there is an answer. Whoever asks one opens a `Call`
around its requests; a model that is used by itself has none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from wherry.models.protocol import Model, ModelDelta, ModelRequest

if TYPE_CHECKING:
    from wherry.store import Store

Note = Callable[[str, Mapping[str, Any]], None]
"""`note(what, details)`: something that a layer did, in a word, with JSON for the record."""


def _say_nothing(what: str, details: Mapping[str, Any]) -> None:
    """Nobody keeps a record of this call."""


@dataclass(slots=True)
class Call:
    """One question under way. `with call: ...` makes it the current one."""

    owner: str = ""
    """On whose behalf: requests of different owners take turns at a server."""
    store: Store | None = None
    """Where the run is kept."""
    tokens: int | None = None
    """What the request takes, prompt and reserved output together, where somebody counted."""
    note: Note = _say_nothing
    deltas: Callable[[str], None] | None = None
    """Takes the reply's text piece by piece, if somebody listens."""
    attempts: bool = False
    """Whether whoever asks counts its attempts, and makes another one where an error's diagnosis says `next_key`."""
    positions: dict[int, int] = field(default_factory=dict[int, int])
    """By a layer's identity: which of its models it asks."""
    ways_on: list[WayOn] = field(default_factory=list["WayOn"])
    """The layers that could turn elsewhere after the last request failed, innermost first."""
    failed: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    """Layers and positions of models that failed in a way that is another's turn."""
    _token: Token[Call | None] | None = None

    def turn_elsewhere(self, kind: str) -> bool:
        """Let the innermost layer that can do so ask another model from now on; whether one can."""
        ways, self.ways_on = self.ways_on, []
        return any(way.move_on(self, kind) for way in ways)

    def __enter__(self) -> Call:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None


_current: ContextVar[Call | None] = ContextVar("wherry_call", default=None)


def current_call() -> Call | None:
    """The call that this code runs in."""
    return _current.get()


class WayOn(Protocol):
    """A layer that can ask another model."""

    def move_on(self, call: Call, kind: str) -> bool:
        """Ask another model in this call from now on, after a failure of this kind; False if there is none."""
        ...


@runtime_checkable
class Routed(Protocol):
    """A layer: it asks another model."""

    def route(self, call: Call | None) -> Model:
        """The model that it asks next."""
        ...


@runtime_checkable
class Healthy(Protocol):
    """A model whose server can be asked how it is."""

    async def healthy(self) -> bool:
        """Whether the server would take a request now. Never raises, and takes a few seconds at most."""
        ...


def store_for(own: Store | None) -> Store:
    """A layer's store: its own, else that of the run that asks, else the user's."""
    if own is not None:
        return own
    call = current_call()
    return call.store if call is not None and call.store is not None else _usual_store(os.getpid())


@cache
def _usual_store(process: int) -> Store:
    """Opened once for all layers; a forked child opens its own."""
    from wherry.store import open_store

    return open_store()


@asynccontextmanager
async def deltas_of(model: Model, request: ModelRequest) -> AsyncGenerator[AsyncIterator[ModelDelta]]:
    """A model's stream, closed at the end of the block: one that is left early must not keep its connection."""
    stream = model.stream(request)
    try:
        yield stream
    finally:
        # A model of a user's may give any iterator; what `async def` with `yield` makes can be closed.
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def target(model: Model, call: Call | None = None) -> Model:
    """The model that will really be asked, behind all layers."""
    # Not isinstance: for a protocol that takes microseconds, and this is asked at every step.
    while hasattr(model, "route"):
        model = cast("Routed", model).route(call)
    return model
