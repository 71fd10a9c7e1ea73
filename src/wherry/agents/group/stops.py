"""When a group chat is over. Conditions combine: `Mention("DONE") | MaxRounds(20)`, `Said("editor") & MaxRounds(3)`.

Each is asked after every round, about what is so then: nothing is remembered, so that a chat that is gone on with
after a crash ends where it would have ended. With `&` both must hold after the same round.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias, cast

from wherry.agents.group.state import ASKER, NOTES, Chat
from wherry.errors import ConfigurationError

Verdict: TypeAlias = "bool | str | None"
Condition: TypeAlias = "Stop | Callable[[Chat], Verdict | Awaitable[Verdict]]"
"""A condition, or a function of the chat: what it returns is true when the chat is over, best a text that says why."""


class Stop(ABC):
    """A condition under which a group chat ends."""

    @abstractmethod
    async def met(self, chat: Chat) -> str | None:
        """Why the chat is over, in a few words; None while it is not."""

    def __and__(self, other: Condition) -> Stop:
        return _All(self, condition(other))

    def __rand__(self, other: Condition) -> Stop:
        return _All(condition(other), self)

    def __or__(self, other: Condition) -> Stop:
        return _Any(self, condition(other))

    def __ror__(self, other: Condition) -> Stop:
        return _Any(condition(other), self)


def condition(given: object) -> Stop:
    """What a user gave as a condition, as one.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(given, Stop):
        return given
    if isinstance(given, type) or not callable(given):
        raise ConfigurationError(
            f"{given!r} is no condition that a chat can stop at",
            hint='give one such as Mention("DONE"), MaxRounds(20) | Said("editor"), or a function of the chat',
        )
    return _Asked(cast("Callable[[Chat], Verdict | Awaitable[Verdict]]", given))


@dataclass(frozen=True, slots=True)
class MaxRounds(Stop):
    """After so many rounds."""

    rounds: int

    def __post_init__(self) -> None:
        _at_least("MaxRounds", self.rounds, 1)

    async def met(self, chat: Chat) -> str | None:
        return f"{self.rounds} rounds are over" if chat.round >= self.rounds else None


@dataclass(frozen=True, slots=True)
class MaxTokens(Stop):
    """Once the whole run has used so many tokens, of prompts and replies together.

    Asked between rounds: the last round may pass it. `Limits` are the bound that nothing passes.
    """

    tokens: int

    def __post_init__(self) -> None:
        _at_least("MaxTokens", self.tokens, 1)

    async def met(self, chat: Chat) -> str | None:
        used = chat.usage.input_tokens + chat.usage.output_tokens
        return f"{used:,} tokens are used, of {self.tokens:,}" if used >= self.tokens else None


@dataclass(frozen=True, slots=True)
class MaxCost(Stop):
    """Once the whole run has cost so many US dollars; asked between rounds, as `MaxTokens`.

    Raises:
        ConfigurationError: from the run, when a model's price is not known.
    """

    usd: Decimal | float | str

    def __post_init__(self) -> None:
        try:
            most = Decimal(str(self.usd))
        except ArithmeticError:
            most = Decimal("NaN")
        if not most.is_finite() or most <= 0:
            raise ConfigurationError(f"MaxCost({self.usd!r}) is no amount of dollars", hint='as in MaxCost("0.50")')
        object.__setattr__(self, "usd", most)

    async def met(self, chat: Chat) -> str | None:
        spent = chat.usage.usd
        if spent is None:
            raise ConfigurationError(
                "MaxCost cannot be kept: the price of a model is not known",
                hint="give the model `price_key=Price(input=..., output=...)`, or stop by MaxTokens",
            )
        return f"{spent} US dollars are spent, of {self.usd}" if spent >= cast("Decimal", self.usd) else None


@dataclass(frozen=True, slots=True)
class Mention(Stop):
    """When a participant says a text, as a whole word and in these very letters.

    Args:
        text: what is looked for.
        by: only in what this participant says.
    """

    text: str
    by: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.text), str) or not self.text.strip():
            raise ConfigurationError(f"Mention({self.text!r}) looks for no text", hint='as in Mention("DONE")')
        if self.by is not None:
            _a_name("Mention", self.by)

    async def met(self, chat: Chat) -> str | None:
        word = re.compile(rf"(?<!\w){re.escape(self.text)}(?!\w)")
        for said in chat.newest:
            if said.author in (ASKER, NOTES) or self.by not in (None, said.author):
                continue
            if word.search(said.text):
                return f"{said.author} said {self.text!r}"
        return None


@dataclass(frozen=True, slots=True)
class Said(Stop):
    """When this participant has said something."""

    by: str

    def __post_init__(self) -> None:
        _a_name("Said", self.by)

    async def met(self, chat: Chat) -> str | None:
        return f"{self.by} has spoken" if any(said.author == self.by for said in chat.newest) else None


@dataclass(frozen=True, slots=True)
class Timeout(Stop):
    """After so many seconds. Asked between rounds; `Limits(seconds=...)` ends a round in its middle."""

    seconds: float

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(cast("object", self.seconds), int | float):
            raise ConfigurationError(f"Timeout({self.seconds!r}) is no time", hint="give seconds above 0")
        if not 0 < self.seconds < float("inf"):
            raise ConfigurationError(f"Timeout({self.seconds!r}) is no time", hint="give seconds above 0")

    async def met(self, chat: Chat) -> str | None:
        return f"{self.seconds:g} seconds are over" if chat.seconds >= self.seconds else None


@dataclass(frozen=True, slots=True)
class _All(Stop):
    one: Stop
    other: Stop

    async def met(self, chat: Chat) -> str | None:
        first, second = await self.one.met(chat), await self.other.met(chat)
        return f"{first} and {second}" if first is not None and second is not None else None


@dataclass(frozen=True, slots=True)
class _Any(Stop):
    one: Stop
    other: Stop

    async def met(self, chat: Chat) -> str | None:
        reason = await self.one.met(chat)
        return reason if reason is not None else await self.other.met(chat)


@dataclass(frozen=True, slots=True)
class _Asked(Stop):
    fn: Callable[[Chat], Verdict | Awaitable[Verdict]]

    async def met(self, chat: Chat) -> str | None:
        verdict = self.fn(chat)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if not verdict:
            return None
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        return verdict if isinstance(verdict, str) else f"the condition {name!r} holds"


def named(stop: Stop) -> set[str]:
    """The participants that a condition speaks of."""
    if isinstance(stop, _All | _Any):
        return named(stop.one) | named(stop.other)
    by = getattr(stop, "by", None)
    return {by} if isinstance(by, str) else set()


def _a_name(what: str, by: object) -> None:
    if not isinstance(by, str) or not by.strip():
        raise ConfigurationError(f"{what} is asked about {by!r}", hint='give a participant\'s name: by="editor"')


def _at_least(what: str, number: object, least: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ConfigurationError(f"{what}({number!r}): give a whole number from {least}")
