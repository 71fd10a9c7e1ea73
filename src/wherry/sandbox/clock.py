"""A snippet's time: first it is asked to stop, then, if it does not look up, it is killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

GRACE_SECONDS = 0.5
"""Between asking a snippet to stop and killing it: loops in C never look up."""
FINAL_SECONDS = 1.0
"""What a snippet has left for its `finally` blocks once it gave its final answer."""


class Clock:
    """Runs from `start` to `cancel`."""

    def __init__(self, seconds: float, *, ask: Callable[[int], None], kill: Callable[[], None]) -> None:
        """Args:
        seconds: until the snippet is asked to stop.
        ask: is given the signal that asks it.
        kill: ends the session.
        """
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._ask, self._kill = ask, kill
        self._timer: asyncio.TimerHandle | None = None
        self._paused_at: float | None = None
        self._stopping = False
        self.killed = False
        """The snippet did not stop when asked to, and its session was ended."""

    def start(self) -> None:
        self.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self, number: int) -> None:
        """Ask the snippet to stop; kill it if it does not in half a second."""
        if not self._stopping:
            self._stopping = True
            self._ask(number)
        self._deadline = self._loop.time() + GRACE_SECONDS
        self.start()

    def shorten(self, seconds: float) -> None:
        """From now on the snippet has no more than this."""
        self._deadline = min(self._deadline, self._loop.time() + seconds)
        self.start()

    def pause(self) -> None:
        """The clock stands while the host works: a managed agent may take minutes."""
        self._paused_at = self._loop.time()

    def resume(self) -> None:
        """The host has answered.

        A snippet that was told to stop gains nothing: by calling a tool it would get all the time that it wants.
        """
        paused_at, self._paused_at = self._paused_at, None
        if paused_at is not None and not self._stopping:
            self._deadline += self._loop.time() - paused_at
            if self._timer is None:
                self.start()

    def _on_timer(self) -> None:
        self._timer = None
        if self._paused_at is not None and not self._stopping:
            return  # `resume` sets it again
        if self._loop.time() < self._deadline:
            self.start()  # the deadline has moved: setting a timer anew for each tool call would cost more than this
        elif self._stopping:
            self.killed = True
            self._kill()
        else:
            self.stop(signal.SIGUSR1)
