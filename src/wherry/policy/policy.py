"""What an agent may do, and for what it must ask a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, cast, get_args

from wherry.errors import ConfigurationError
from wherry.messages import ToolSchema, canonical, digest
from wherry.policy.rules import Rule, RuleLike, to_rule
from wherry.redaction import hold_pattern
from wherry.tools.egress import Egress, addresses
from wherry.tools.values import brief

NewTools = Literal["allow", "approve", "deny"]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Policy:
    """What governs an agent, and the agents that it asks: theirs comes on top of it.

    A call that a rule of `deny` speaks of is refused, whatever else is said of it; the model is told why. One that a
    rule of `approve` speaks of suspends the run until a person decides.

    Raises:
        ConfigurationError: A rule, a host or a pattern that cannot be.
    """

    _: KW_ONLY
    approve: Iterable[RuleLike] = ()
    """Calls that need a person's word: tools by name or glob, a pair of that and a function of the arguments, or a
    `wherry.policy.Rule`."""
    deny: Iterable[RuleLike] = ()
    """Calls that are never made."""
    new_tools: NewTools = "allow"
    """What happens with a tool that the agent did not have when it first ran in this store, or that has another schema
    than then: it is called, it waits for approval, it is refused."""
    egress: Iterable[str] = ()
    """The hosts that network tools may reach: `example.org`, `*.example.org`, `localhost:8080`, `10.0.0.0/8`. Empty:
    any."""
    redact: Iterable[str | re.Pattern[str]] = ()
    """Regular expressions; what they find is taken out of everything before it is written down, in this process."""
    intent: bool = False
    """Whether every call must say in a few words what it is for; that is recorded and not passed to the tool."""
    hosts: Egress | None = field(init=False, repr=False, compare=False)
    """`egress`, as it is asked; None for any host."""

    def __post_init__(self) -> None:
        for name in ("approve", "deny"):
            object.__setattr__(self, name, _rules(name, cast("object", getattr(self, name))))
        if self.new_tools not in get_args(NewTools):
            choices = ", ".join(repr(one) for one in get_args(NewTools))
            raise ConfigurationError(f"new_tools is {brief(self.new_tools, 80)}", hint=f"one of {choices}")
        if not isinstance(cast("object", self.intent), bool):
            raise ConfigurationError(f"intent is {brief(self.intent, 80)}", hint="True or False")
        hosts = _listed("egress", cast("object", self.egress), 'a list of hosts: egress=["example.org"]')
        object.__setattr__(self, "egress", hosts)
        object.__setattr__(self, "hosts", Egress(cast("tuple[str, ...]", hosts)) if hosts else None)
        found = _listed("redact", cast("object", self.redact), r'a list of patterns: redact=[r"\d{4} \d{4}"]')
        patterns = tuple(_pattern(one) for one in found)
        object.__setattr__(self, "redact", patterns)
        for pattern in patterns:
            hold_pattern(pattern, self)

    def denied(self, name: str, schema: ToolSchema, network: tuple[str, ...], arguments: Mapping[str, Any]) -> str:
        """Why a call with these arguments, checked, is never made; an empty text if it may be."""
        for rule in cast("tuple[Rule, ...]", self.deny):
            if rule.names(name) and rule.holds(arguments):
                return rule.reason or f"the policy does not allow `{name}`{_with(rule)}"
        if self.hosts is not None:
            for address in addresses(schema, network, arguments):
                if (problem := self.hosts.refusal(address)) is not None:
                    return problem
        return ""

    def asks(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Why a call with these arguments, checked, needs a person's word; an empty text if it needs none."""
        for rule in cast("tuple[Rule, ...]", self.approve):
            if rule.names(name) and rule.holds(arguments):
                return rule.reason or f"the policy asks for approval of `{name}`{_with(rule)}"
        return ""

    @property
    def silent(self) -> bool:
        """Whether it has nothing to say of any call."""
        return not (self.approve or self.deny or self.egress or self.new_tools != "allow")

    def to_json(self) -> dict[str, Any]:
        """The policy for people and digests; fields that hold their default are left out."""
        out: dict[str, Any] = {}
        for name in ("approve", "deny"):
            if rules := cast("tuple[Rule, ...]", getattr(self, name)):
                out[name] = [rule.to_json() for rule in rules]
        if self.new_tools != "allow":
            out["new_tools"] = self.new_tools
        if self.egress:
            out["egress"] = list(self.egress)
        if self.redact:
            out["redact"] = [cast("re.Pattern[str]", one).pattern for one in self.redact]
        if self.intent:
            out["intent"] = True
        return out

    @property
    def digest(self) -> str:
        return digest(canonical(self.to_json()))


def _with(rule: Rule) -> str:
    return "" if rule.by_name else " with these arguments"


def _rules(name: str, given: object) -> tuple[Rule, ...]:
    return tuple(to_rule(one) for one in _listed(name, given, f'a list of rules: {name}=["delete_*"]'))


def _listed(name: str, given: object, hint: str) -> tuple[Any, ...]:
    shown = brief(given, 80)
    if isinstance(given, str | bytes | Rule | re.Pattern) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{name} is {shown}", hint=hint)
    return tuple(cast("Iterable[object]", given))


def _pattern(given: object) -> re.Pattern[str]:
    shown = brief(given, 80)
    try:
        found = re.compile(given) if isinstance(given, str) else given
    except re.error as error:
        raise ConfigurationError(f"redact: {shown} is no pattern: {error}") from error
    if not isinstance(found, re.Pattern) or not isinstance(cast("re.Pattern[Any]", found).pattern, str):
        raise ConfigurationError(f"redact: {shown} is no pattern", hint="a regular expression over texts")
    pattern = cast("re.Pattern[str]", found)
    if pattern.search("") is not None:
        raise ConfigurationError(
            f"redact: {shown} finds nothing in particular", hint="it matches where there is no text"
        )
    return pattern
