"""Who may speak after whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from wherry.agents.group.state import ASKER
from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    from wherry.agents.agent import Agent

Named: TypeAlias = "str | Agent"
Following: TypeAlias = (
    "Mapping[str, Iterable[Named]] | Mapping[Agent, Iterable[Named]] | Mapping[Named, Iterable[Named]]"
)
"""Participant -> those who may speak next, by name or as they are; `"user"` -> those who may begin."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Transitions that are not allowed; all others are."""

    following: Following


class Transitions:
    """Who may speak after whom, checked.

    * Without any, everybody may speak after everybody else, and nobody twice in a row unless there is nobody else.
    * Of an allowing mapping, who is no key may be followed by everybody else; who has nobody is followed by nobody: the
      chat ends there.

    Args:
        names: The participants', in their order.
        given: What the user gave.

    Raises:
        ConfigurationError: It names somebody unknown, or nobody may begin.
    """

    def __init__(self, names: Sequence[str], given: Following | Forbidden | None) -> None:
        self.names = tuple(names)
        self.given = given is not None
        """Whether the user said anything."""
        forbidden = isinstance(given, Forbidden)
        listed = _by_name(given.following if isinstance(given, Forbidden) else given or {}, set(names))
        self._after: dict[str, tuple[str, ...]] = {}
        for name in (ASKER, *names):
            others = tuple(other for other in names if other != name or len(names) == 1)
            if name not in listed:
                self._after[name] = tuple(names) if forbidden or name == ASKER else others
            elif forbidden:
                self._after[name] = tuple(other for other in names if other not in listed[name])
            else:
                self._after[name] = tuple(other for other in names if other in listed[name])
        if not self._after[ASKER]:
            raise ConfigurationError("nobody may begin the chat", hint=f"let somebody follow {ASKER!r}")

    def after(self, speakers: Iterable[str]) -> tuple[str, ...]:
        """Who may speak after these have spoken at once, in the order of the participants; empty: the chat is over."""
        following = {name for speaker in speakers for name in self._after[speaker]}
        return tuple(name for name in self.names if name in following)

    def independent(self, one: str, other: str) -> bool:
        """Whether neither could answer the other, so that both may speak at once."""
        return one != other and other not in self._after[one] and one not in self._after[other]

    def at_once(self, first: str, candidates: Sequence[str], most: int) -> tuple[str, ...]:
        """`first`, with those candidates who are independent of it and of one another, in order; at most so many."""
        chosen = [first]
        start = candidates.index(first) + 1 if first in candidates else 0
        for name in (*candidates[start:], *candidates[:start]):
            if len(chosen) >= most:
                break
            if all(self.independent(name, other) for other in chosen):
                chosen.append(name)
        return tuple(chosen)


def name_of(given: object) -> str:
    """A participant's name, given by name or as the agent."""
    name = given if isinstance(given, str) else getattr(given, "name", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"{given!r} is no participant", hint="give an agent of the group, or its name")
    return name


def _by_name(given: object, names: set[str]) -> dict[str, set[str]]:
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"transitions is {given!r}", hint='give {"ann": ["bo"], ...}, or Forbidden({"ann": ["ann"]})'
        )
    found: dict[str, set[str]] = {}
    for key, following in cast("Mapping[object, object]", given).items():
        name = name_of(key)
        if isinstance(following, str) or not isinstance(following, Iterable):
            raise ConfigurationError(f"transitions[{name!r}] is {following!r}", hint="give a list of names")
        found[name] = {name_of(other) for other in cast("Iterable[object]", following)}
        unknown = sorted(({name} - names - {ASKER}) | (found[name] - names))
        if unknown:
            raise ConfigurationError(
                f"the transitions name {unknown[0]!r}, who is not in the group",
                hint=f"there are: {', '.join(sorted(names))}; and {ASKER!r} for who may begin",
            )
    return found
