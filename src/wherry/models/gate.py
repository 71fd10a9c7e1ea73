"""Admission to a server: so many tokens, and so many requests, at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

from wherry.errors import ContextBudgetError


@dataclass(slots=True, eq=False)
class _Waiting:
    tokens: int
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]
    state: Literal["waits", "admitted", "gone"] = "waits"


class Gate:
    """Lets requests through to a server while they fit beside those that are under way.

    * Tokens in flight are never more than `capacity`, requests never more than `places`; None: no bound.
    * First come, first served; where several owners wait, they take turns, so that one with a hundred requests does not
      hold up one with a single one. Nothing overtakes a large request that waits for its room.
    * A request that is larger than the whole is refused at once. One that waited already when the whole was made less
      goes through alone.
    * Cancelling one that waits frees its place.

    Serves any number of event loops and threads.
    """

    def __init__(self, capacity: int | None = None, *, places: int | None = None) -> None:
        self._lock = threading.Lock()
        self._capacity = capacity
        self._places = places
        self._tokens = 0
        self._requests = 0
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        """By owner, in the order of their turns."""

    @property
    def capacity(self) -> int | None:
        """The most tokens in flight."""
        return self._capacity

    @property
    def in_flight(self) -> int:
        """Tokens of the requests that are under way."""
        return self._tokens

    @property
    def requests(self) -> int:
        """Requests that are under way."""
        return self._requests

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        with self._lock:
            return sum(len(queue) for queue in self._waiting.values())

    def resize(self, capacity: int | None) -> None:
        """Take more or fewer tokens from now on. What is under way goes on."""
        with self._lock:
            self._capacity = capacity
            self._let_through()

    async def enter(self, tokens: int, owner: str = "") -> None:
        """Wait for room. Whoever came through calls `leave` with the same number, however it ends.

        Raises:
            ContextBudgetError: There will never be room.
        """
        with self._lock:
            if self._capacity is not None and tokens > self._capacity:
                raise ContextBudgetError(
                    f"the request takes {tokens:,} tokens, prompt and reserved output together; "
                    f"the server takes {self._capacity:,} at the same time",
                    hint="shorten it, or let the server have more: a larger context, more slots, tokens_in_flight=...",
                    diagnosis={"kind": "ContextBudget", "requested": tokens, "tokens_in_flight": self._capacity},
                )
            if not self._waiting and self._fits(tokens):
                self._tokens += tokens
                self._requests += 1
                return
            loop = asyncio.get_running_loop()
            waiting = _Waiting(tokens, loop, loop.create_future())
            self._waiting.setdefault(owner, deque()).append(waiting)
        try:
            await waiting.turn
        except BaseException:  # cancelled, or its loop is gone
            with self._lock:
                if waiting.state == "admitted":
                    self._tokens -= tokens
                    self._requests -= 1
                elif waiting.state == "waits":
                    self._waiting[owner].remove(waiting)
                    if not self._waiting[owner]:
                        del self._waiting[owner]
                self._let_through()  # those behind it may fit
            raise

    def leave(self, tokens: int) -> None:
        """The request is over: its room is free."""
        with self._lock:
            self._tokens -= tokens
            self._requests -= 1
            if self._waiting:
                self._let_through()

    def _fits(self, tokens: int) -> bool:
        if not self._requests:
            return True
        if self._places is not None and self._requests >= self._places:
            return False
        return self._capacity is None or self._tokens + tokens <= self._capacity

    def _let_through(self) -> None:
        """Admit whoever is next while there is room. The lock is held."""
        while self._waiting:
            owner, queue = next(iter(self._waiting.items()))
            if not self._fits(queue[0].tokens):
                return
            admitted = queue.popleft()
            del self._waiting[owner]
            if queue:
                self._waiting[owner] = queue  # at the end: it is the others' turn
            try:
                admitted.loop.call_soon_threadsafe(_wake, admitted.turn)
            except RuntimeError:  # its loop was closed while it waited: nobody is there to leave again
                admitted.state = "gone"
                continue
            admitted.state = "admitted"
            self._tokens += admitted.tokens
            self._requests += 1


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
