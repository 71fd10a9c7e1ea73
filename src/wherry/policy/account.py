"""What a tree of runs has spent, and what it has promised to calls that are under way.

Every run has an account below the one of the run that asked for it. What is spent is booked from the leaf to the root;
whether a call may be made is asked from the root to the leaf, so that the outermost limit speaks first.

All accounts of one tree belong to one event loop; nothing here is safe for threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from wherry.errors import ConfigurationError, LimitReached
from wherry.messages import Usage
from wherry.policy.limits import Limits

Pricing = Callable[[int, int], Decimal | None]
"""The price of so many input and output tokens; None when it is not known."""

LEAST_OUTPUT = 16
"""Tokens below which a reply is not worth asking for: the limit counts as reached."""

_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Need:
    """The most that one request can take."""

    input_tokens: int
    output_tokens: int
    usd: Decimal | None = None


class Account:
    """What one run has spent, the runs below it included."""

    __slots__ = ("_bounded", "_charged", "_held", "_parent", "_waiting", "limits", "run_id", "usage")

    def __init__(self, limits: Limits | None = None, *, run_id: str = "", parent: Account | None = None) -> None:
        self.limits = limits or Limits()
        self.run_id = run_id
        self.usage = _NOTHING
        """What was really used, as far as it is known."""
        self._parent = parent
        self._charged = _NOTHING
        """What counts against the limits: what was used, and the whole reservation of a call whose end is unknown."""
        self._held = _NOTHING
        self._bounded: bool = bool(self.limits) or (parent is not None and parent._bounded)
        self._waiting: deque[asyncio.Future[None]] = deque() if parent is None else parent._waiting

    @property
    def limits_usd(self) -> bool:
        """Whether a limit in dollars holds here, the account's own or one above."""
        return any(account.limits.dollars is not None for account in self._from_root())

    def restore(self, usage: Usage, charged: Usage | None = None, *, above: bool = True) -> None:
        """Begin with what was spent earlier: by the same run, before it was interrupted.

        Args:
            usage: What was really used, as far as it is known.
            charged: What counts against the limits; None: the same.
            above: Whether the accounts above take it in too; not, if they have.
        """
        charged = usage if charged is None else charged
        if above:
            self._book(usage, charged)
        else:
            self.usage += usage
            self._charged += _priced(charged)

    def add(self, usage: Usage) -> None:
        """Book what was spent without asking: nothing could have been saved by refusing."""
        self._book(usage, usage)

    def count_tool_call(self) -> None:
        """Book one tool call, before it is made.

        Raises:
            LimitReached: it would be one too many.
        """
        if self._bounded:
            for account in self._from_root():
                most = account.limits.tool_calls
                if most is not None and account._charged.tool_calls >= most:
                    raise account._reached("tool_calls", most)
        one = Usage(tool_calls=1)
        self._book(one, one)

    async def reserve(self, input_tokens: int, output_tokens: int, price: Pricing) -> Reservation:
        """Set aside what one request can take at most; waits for calls under way where only they stand in the way.

        Args:
            input_tokens: of the prompt, as counted.
            output_tokens: the most that is wanted of the reply. The reservation says how much it may be.
            price: for limits in dollars.

        Raises:
            LimitReached: the request cannot be made under the limits, whatever the calls under way turn out to take.
            ConfigurationError: there is a limit in dollars, and the price is not known.
        """
        if not self._bounded:
            return Reservation(self, Need(input_tokens, output_tokens), held=False)
        while True:
            need = self._fitting(input_tokens, output_tokens, price)
            if self._free(need):
                self._hold(_as_usage(need))
                return Reservation(self, need, held=True)
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                if not turn.done() or turn.cancelled():  # leaving: its place is nobody's
                    self._forget(turn)

    def _fitting(self, input_tokens: int, output_tokens: int, price: Pricing) -> Need:
        """The largest request that the limits would take if nothing were under way.

        Raises:
            LimitReached: there is none.
        """
        least = min(LEAST_OUTPUT, output_tokens)
        for account in self._from_root():
            limits, charged = account.limits, account._charged
            if limits.requests is not None and charged.requests + 1 > limits.requests:
                raise account._reached("requests", limits.requests)
            if limits.input_tokens is not None and charged.input_tokens + input_tokens > limits.input_tokens:
                raise account._reached("input_tokens", limits.input_tokens)
            if limits.output_tokens is not None:
                output_tokens = min(output_tokens, limits.output_tokens - charged.output_tokens)
                if output_tokens < max(1, least):
                    raise account._reached("output_tokens", limits.output_tokens)
            if (most := limits.dollars) is not None:
                if price(0, 0) is None:
                    raise ConfigurationError(
                        "the run has a limit in dollars, and no price is known of the model that is asked now",
                        hint="give the model `price_key=Price(input=..., output=...)`",
                    )
                left = most - (charged.usd or Decimal(0))
                output_tokens = _affordable(left, input_tokens, output_tokens, price)
                if output_tokens < max(1, least):
                    raise account._reached("usd", most)
        usd = price(input_tokens, output_tokens) if self.limits_usd else None
        return Need(input_tokens, output_tokens, usd)

    def _free(self, need: Need) -> bool:
        """Whether a request fits beside what is under way."""
        for account in self._from_root():
            limits, charged, held = account.limits, account._charged, account._held
            if limits.requests is not None and charged.requests + held.requests + 1 > limits.requests:
                return False
            if (
                limits.input_tokens is not None
                and charged.input_tokens + held.input_tokens + need.input_tokens > limits.input_tokens
            ):
                return False
            if (
                limits.output_tokens is not None
                and charged.output_tokens + held.output_tokens + need.output_tokens > limits.output_tokens
            ):
                return False
            if (most := limits.dollars) is not None:
                spoken_for = (charged.usd or Decimal(0)) + (held.usd or Decimal(0))
                if spoken_for + (need.usd or Decimal(0)) > most:
                    return False
        return True

    def _from_root(self) -> list[Account]:
        chain: list[Account] = []
        account: Account | None = self
        while account is not None:
            chain.append(account)
            account = account._parent
        chain.reverse()
        return chain

    def _hold(self, usage: Usage) -> None:
        account: Account | None = self
        while account is not None:
            account._held += usage
            account = account._parent

    def _release(self, usage: Usage) -> None:
        account: Account | None = self
        while account is not None:
            account._held = _minus(account._held, usage)
            account = account._parent
        self._wake()

    def _book(self, used: Usage, charged: Usage) -> None:
        account: Account | None = self
        while account is not None:
            account.usage += used
            if account._bounded:
                # A price that is not known limits nothing: runs under a limit in dollars do not start without one.
                account._charged += _priced(charged)
            account = account._parent

    def _wake(self) -> None:
        """Let everyone who waits look again, in the order in which they came."""
        waiting = [*self._waiting]
        self._waiting.clear()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _forget(self, turn: asyncio.Future[None]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)

    def _reached(self, limit: str, value: Decimal | float) -> LimitReached:
        return LimitReached(limit, value, owner=self.run_id)


class Reservation:
    """What is set aside for one request. It ends in exactly one of three ways; a second one is without effect."""

    __slots__ = ("_account", "_held", "_open", "need")

    def __init__(self, account: Account, need: Need, *, held: bool) -> None:
        self.need = need
        self._account = account
        self._held = held
        self._open = True

    @property
    def open(self) -> bool:
        """Whether it has not ended yet."""
        return self._open

    @property
    def max_output(self) -> int:
        """The most tokens that the reply may be asked for."""
        return self.need.output_tokens

    def settle(self, usage: Usage) -> None:
        """The request came to its end, and took `usage`."""
        self._end(usage, usage)

    def lose(self, usage: Usage) -> None:
        """Nobody knows what the request took in the end: it was cancelled, or the connection broke.

        Against the limits the whole reservation counts; `usage` is what is known of it.
        """
        self._end(usage, _at_least(_as_usage(self.need), usage))

    def release(self) -> None:
        """The request was never sent."""
        self._end(_NOTHING, _NOTHING)

    def _end(self, used: Usage, charged: Usage) -> None:
        if not self._open:
            return
        self._open = False
        if charged is not _NOTHING:
            self._account._book(used, charged)  # pyright: ignore[reportPrivateUsage] - two halves of one thing
        if self._held:
            self._account._release(_as_usage(self.need))  # pyright: ignore[reportPrivateUsage]


def _as_usage(need: Need) -> Usage:
    return Usage(1, need.input_tokens, 0, need.output_tokens, 0, 0.0, need.usd or Decimal(0))


def _at_least(reserved: Usage, known: Usage) -> Usage:
    return Usage(
        max(reserved.requests, known.requests),
        max(reserved.input_tokens, known.input_tokens),
        known.cached_tokens,
        max(reserved.output_tokens, known.output_tokens),
        known.tool_calls,
        known.seconds,
        max(reserved.usd or Decimal(0), known.usd or Decimal(0)),
    )


def _minus(total: Usage, part: Usage) -> Usage:
    return Usage(
        total.requests - part.requests,
        total.input_tokens - part.input_tokens,
        total.cached_tokens - part.cached_tokens,
        total.output_tokens - part.output_tokens,
        total.tool_calls - part.tool_calls,
        total.seconds - part.seconds,
        (total.usd or Decimal(0)) - (part.usd or Decimal(0)),
    )


def _priced(usage: Usage) -> Usage:
    if usage.usd is not None:
        return usage
    return Usage(
        usage.requests,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.tool_calls,
        usage.seconds,
        Decimal(0),
    )


def _affordable(left: Decimal, input_tokens: int, output_tokens: int, price: Pricing) -> int:
    """The most output tokens, up to those wanted, that the money that is left pays for; below 0 when none are."""
    whole = price(input_tokens, output_tokens)
    if whole is None or whole <= left:
        return output_tokens
    low, high = -1, output_tokens  # prices may have steps: searched, not divided
    while high - low > 1:
        middle = (low + high) // 2
        asked = price(input_tokens, middle)
        if asked is not None and asked <= left:
            low = middle
        else:
            high = middle
    return low
