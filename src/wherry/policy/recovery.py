"""What is done when a model's server fails: one small policy over the failure, the attempts so far, and the run.

Nothing is done here: `decide` says what to do, whoever asked does it and records it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, assert_never

from wherry.models.failure_kind import Failure, FailureKind

Act = Literal["shrink", "halve", "retry", "wait", "give_up"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a failure."""

    act: Act
    """`shrink`: compact to `window`, ask again. `halve`: the same, with fewer tokens in flight, once the server is
    healthy. `wait` and `retry`: ask again after `wait` seconds. `give_up`: no further request to this model."""
    _: KW_ONLY
    wait: float = 0.0
    """Seconds, jitter included."""
    window: int | None = None
    """Of `shrink`: the largest request in tokens from now on."""
    check_health: bool = False
    """Whether the server has to be up again first."""
    why: str = ""
    """Of `give_up`: what stands against another attempt."""


@dataclass(slots=True)
class Trouble:
    """What has gone wrong with one question so far."""

    window: int
    """The largest request in tokens that was to be sent."""
    asked: int
    """What the last request took, prompt and reserved output together, as it was counted here."""
    _: KW_ONLY
    jitter: random.Random
    seconds_left: float | None = None
    """Of the run's time limit; None: there is none."""
    transient: bool = True
    """Whether it was a server that failed, and not a program."""
    counts: Counter[FailureKind] = field(default_factory=Counter[FailureKind])
    """Failures by kind, the last one included, since the question went to the present model."""
    waited: float = 0.0
    """Seconds of all waits for this question."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How often what is tried again, and how long is waited.

    Above all of it is the run's time limit: a wait that it has no room for is not begun.
    """

    shrinks: int = 2
    """Attempts with a smaller request after an overflow."""
    halvings: int = 2
    """Attempts with half the window after the server ran out of memory."""
    retries: int = 3
    """Attempts after a timeout, a lost connection, a fault of the server."""
    waits: int = 10
    """Attempts after a rate limit or an overload."""
    first_wait: float = 0.5
    """Seconds before the first attempt where the server does not say; doubled for each further one."""
    longest_wait: float = 60.0
    """Seconds that doubling stops at."""
    patience: float = 600.0
    """Seconds that all waits for one question may take together, where the run has no time limit that says so."""
    health: float = 120.0
    """Seconds that a server is given to come up again."""
    first_contact: float = 5.0
    """The same for one that has never been there: the address may be wrong."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def decide(self, failure: Failure, trouble: Trouble) -> Decision:
        """What to do about a failure. The same arguments give the same decision."""
        kind = failure.kind
        count = trouble.counts[kind]
        match kind:
            case FailureKind.ContextOverflow:
                return self._smaller(failure, trouble, count)
            case FailureKind.OutOfMemory:
                if count > self.halvings:
                    return Decision("give_up", why=f"{self.halvings} attempts with a smaller request failed as well")
                return self._in_time(Decision("halve", wait=self._backoff(count, trouble), check_health=True), trouble)
            case FailureKind.RateLimited | FailureKind.Overloaded:
                if count > self.waits:
                    return Decision("give_up", why=f"{self.waits} attempts after waiting failed as well")
                wait = self._backoff(count, trouble)
                if failure.retry_after is not None:
                    # A little later than asked, each by itself: or all who were told the same come at once.
                    wait = failure.retry_after + trouble.jitter.uniform(0, min(1.0, failure.retry_after / 10))
                return self._in_time(Decision("wait", wait=wait), trouble)
            case FailureKind.Timeout | FailureKind.ConnectionLost | FailureKind.ServerError:
                if not trouble.transient:
                    return Decision("give_up", why="the error is no server's")
                if count > self.retries:
                    return Decision("give_up", why=f"{self.retries} further attempts failed as well")
                wait = self._backoff(count, trouble)
                if failure.retry_after is not None:
                    wait = max(wait, failure.retry_after)
                lost = kind is FailureKind.ConnectionLost
                return self._in_time(Decision("retry", wait=wait, check_health=lost), trouble)
            case FailureKind.Authentication:
                return Decision("give_up", why="no other key is there")
            case FailureKind.QuotaExhausted:
                return Decision("give_up", why="waiting does not help, and no other key is there")
            case FailureKind.BadRequest | FailureKind.ContentFiltered:
                return Decision("give_up", why="the same request would be refused again")
            case _:
                assert_never(kind)

    def _smaller(self, failure: Failure, trouble: Trouble, count: int) -> Decision:
        if count > self.shrinks:
            return Decision("give_up", why=f"{self.shrinks} smaller requests were too large as well")
        window = int(trouble.asked * 0.7)  # no number was told: a good deal less than was too much
        if failure.limit is not None and failure.limit > 0:
            window = failure.limit
            if window >= trouble.asked:
                # It fits as it was counted here, and does not as it was counted there: by as much as the counts differ.
                there = max(failure.requested or 0, failure.limit + 1)
                window = min(int(trouble.asked * failure.limit / there * 0.95), trouble.asked - 1)
        return Decision("shrink", window=max(1, min(window, trouble.window)))

    def _backoff(self, count: int, trouble: Trouble) -> float:
        """Doubled each time; between half and all of it, so that those who failed together do not come together."""
        longest = min(self.first_wait * 2.0 ** min(count - 1, 30), self.longest_wait)
        return longest * trouble.jitter.uniform(0.5, 1.0)

    def _in_time(self, decision: Decision, trouble: Trouble) -> Decision:
        left = trouble.seconds_left
        if left is not None and decision.wait >= left:
            return Decision(
                "give_up", why=f"it would have to wait {decision.wait:.1f} s, and the run has {max(left, 0):.1f} s left"
            )
        if left is None and trouble.waited + decision.wait > self.patience:
            return Decision(
                "give_up",
                why=f"it would have to wait {decision.wait:.1f} s, after {trouble.waited:.1f} s; a run without a limit "
                f"of seconds waits {self.patience:g} s at most",
            )
        return decision


_in_use: ContextVar[Recovery] = ContextVar("wherry_recovery")
_USUAL = Recovery()


def recovery() -> Recovery:
    """The policy in use here."""
    return _in_use.get(_USUAL)


@contextmanager
def use_recovery(policy: Recovery) -> Generator[Recovery]:
    """Let all that runs inside be recovered by another policy."""
    token = _in_use.set(policy)
    try:
        yield policy
    finally:
        _in_use.reset(token)
