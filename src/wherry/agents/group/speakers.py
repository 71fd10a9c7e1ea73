"""Who speaks next: in turn, by chance, by a function, or by a model's choice."""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from wherry.agents.group.state import Chat
from wherry.agents.group.transitions import name_of
from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    from wherry.agents.agent import Agent

Chosen: TypeAlias = "str | Agent | Sequence[str | Agent] | None"
SpeakerFunction: TypeAlias = "Callable[[Chat], Chosen | Awaitable[Chosen]]"
"""A function of the chat that says who speaks next, by name or as the agent; several, who then speak at once; or None:
the chat is over. It runs on the event loop and should not block."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who speaks in a round."""

    speakers: tuple[str, ...]
    """Nobody: the chat is over."""
    how: str
    """`"auto"`, `"round_robin"`, `"random"`, `"function"`, `"only one"`, or `"fallback"`."""
    why: str = ""


class Chooser(Protocol):
    """A way to choose."""

    async def choose(self, chat: Chat, candidates: Sequence[str]) -> Choice:
        """One of the candidates, of whom there are two at least; a function may name others, or several."""
        ...


class InTurn:
    """One after the other, in the order in which they were given; who may not speak now is passed over."""

    async def choose(self, chat: Chat, candidates: Sequence[str]) -> Choice:
        return Choice((next_in_turn(chat, candidates),), "round_robin")


def next_in_turn(chat: Chat, candidates: Sequence[str]) -> str:
    """The candidate who comes next after those who spoke last."""
    names = list(chat.participants)
    start = max((names.index(name) + 1 for name in chat.speakers), default=0)
    order = [*names[start:], *names[:start]]
    return next(name for name in order if name in candidates)


class ByChance:
    """Any of them, alike whenever the same run is played again: the seed is its id and the round."""

    async def choose(self, chat: Chat, candidates: Sequence[str]) -> Choice:
        chance = random.Random(f"{chat.run_id}:{chat.round}")  # noqa: S311 - to be repeated, not to be secret
        return Choice((chance.choice(list(candidates)),), "random")


class ByFunction:
    """Whom a function names."""

    def __init__(self, fn: SpeakerFunction) -> None:
        self._fn = fn

    async def choose(self, chat: Chat, candidates: Sequence[str]) -> Choice:
        given = self._fn(chat)
        if inspect.isawaitable(given):
            given = await given
        chosen = cast("object", given)
        if chosen is None:
            return Choice((), "function", "it named nobody")
        several = isinstance(chosen, list | tuple)
        names = tuple(name_of(one) for one in cast("Sequence[object]", chosen)) if several else (name_of(chosen),)
        if len(set(names)) < len(names):
            raise ConfigurationError(f"the speaker function named somebody twice: {', '.join(names)}")
        for name in names:
            if name not in candidates:
                allowed = ", ".join(candidates) or "nobody"
                raise ConfigurationError(
                    f"the speaker function named {name!r}, who cannot speak now", hint=f"who can: {allowed}"
                )
        return Choice(names, "function", "" if names else "it named nobody")
