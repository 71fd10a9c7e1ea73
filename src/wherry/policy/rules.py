"""Which calls a policy speaks of: tools by name or glob, calls by their arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, cast

from wherry.errors import ConfigurationError
from wherry.tools.options import PLAIN, Predicate, is_async
from wherry.tools.source import code_digest, source_of
from wherry.tools.values import brief

_GLOB = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """Some calls: those of the tools with that name, and, with `when`, of the arguments of which it is true.

    Raises:
        ConfigurationError: The name is none, or `when` cannot be called, or is async.
    """

    tools: str
    """A tool's or a managed agent's name, or a glob: `delete_*`."""
    when: Predicate | None = None
    """A function of the arguments, which it gets checked and with their defaults. Where it raises, the rule holds."""
    _: KW_ONLY
    reason: str = ""
    """Why, for the model that is refused and the person that is asked."""

    def __post_init__(self) -> None:
        name = cast("object", self.tools)
        if not isinstance(name, str) or not _GLOB.fullmatch(name):
            raise ConfigurationError(
                f"a policy names {brief(name, 80)}, which is no tool's name", hint='a name or a glob: "delete_*"'
            )
        if self.when is not None and not callable(cast("object", self.when)):
            raise ConfigurationError(
                f"a policy has {brief(self.when, 80)} for {name!r}, which is no question about arguments",
                hint="a function of the arguments: lambda arguments: arguments['amount'] > 100",
            )
        if is_async(self.when):
            raise ConfigurationError(f"a policy has {brief(self.when, 80)} for {name!r}, which is async", hint=PLAIN)
        if not isinstance(cast("object", self.reason), str):
            raise ConfigurationError(f"the reason of a rule is {brief(self.reason, 80)}", hint="give a text")

    @property
    def by_name(self) -> bool:
        """Whether the name alone decides."""
        return self.when is None

    def names(self, tool: str) -> bool:
        return self.tools == tool or fnmatchcase(tool, self.tools)

    def holds(self, arguments: Mapping[str, Any]) -> bool:  # Any: arguments are of any type
        return holds(self.when, arguments)

    def to_json(self) -> dict[str, Any]:
        """The rule for people and digests; of `when`, the source."""
        out: dict[str, Any] = {"tools": self.tools}
        if self.when is not None:
            source = source_of(self.when)
            out["when"] = source if source is not None else code_digest(self.when, None)
        if self.reason:
            out["reason"] = self.reason
        return out


RuleLike: TypeAlias = "str | tuple[str, Callable[[Mapping[str, Any]], object]] | Rule"
"""What is accepted as a rule: a name or glob, one with a question about the arguments, or a `Rule`."""


def to_rule(given: object) -> Rule:
    """
    Raises:
        ConfigurationError: It is no rule.
    """
    if isinstance(given, Rule):
        return given
    if isinstance(given, str):
        return Rule(given)
    shown = brief(given, 80)
    parts = cast("tuple[object, ...]", given) if isinstance(given, tuple) else ()
    if len(parts) == 2:
        return Rule(cast("str", parts[0]), cast("Predicate", parts[1]))
    raise ConfigurationError(
        f"{shown} is no rule of a policy",
        hint='a name, a glob, ("pay_*", lambda arguments: arguments["amount"] > 100), or a Rule',
    )


def holds(when: Predicate | None, arguments: Mapping[str, Any]) -> bool:
    """Whether a question about arguments is answered with yes. One that cannot be answered is: nothing passes by it.

    Raises:
        ConfigurationError: It gave something that must be awaited, as a lambda around an async function does.
    """
    if when is None:
        return True
    try:
        answer = when(arguments)
        if not inspect.isawaitable(answer):
            return bool(answer)
    except Exception:  # noqa: BLE001  a user's function
        return True
    if inspect.iscoroutine(answer):
        answer.close()
    raise ConfigurationError(f"{brief(when, 80)} asks about a call's arguments and is async", hint=PLAIN)
