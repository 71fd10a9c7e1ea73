"""What a tool says of itself beside its schema: whether it needs a person's word, and what a second call would do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast  # Any: arguments are of any type

from wherry.errors import ConfigurationError
from wherry.tools.values import brief

DEFAULT_TIMEOUT = 300.0
"""Seconds that a tool may take when it says nothing of its own; `timeout=None` lets it take any time."""


@dataclass(frozen=True, slots=True)
class StartedCall:
    """A call that was begun and has no end in the records: the process died while it was under way."""

    name: str
    """The tool's, as the model calls it."""
    arguments: Mapping[str, Any]
    """As they were recorded: JSON."""
    run_id: str
    call: str
    """Names the call within its run."""
    key: str
    """The idempotency key that the tool had while it ran: `current_context().idempotency_key`."""


Predicate = Callable[[Mapping[str, Any]], object]
"""A question about a call's arguments, checked and with their defaults; what it returns is taken as true or false. Not
async: what it returned would have to be awaited, and count as true until then."""
Checker = Callable[[StartedCall], object]
"""Gives the result of a call that did take effect, None for one that did not; raises where it cannot tell. May be
async."""


class ToolOptions(TypedDict, total=False):
    """The keyword arguments that `tool` and `FunctionTool` take beside a name and a description."""

    timeout: float | None
    """Seconds that one call may take; None: any time."""
    cache: float | None
    """Seconds that a result is given again to the same call, in any run with the same store; None: never."""
    needs_approval: bool | Predicate
    """Whether a person must agree before a call is made; or a function of the arguments that says so."""
    side_effects: bool
    """Whether a call changes something out there, so that it must not be made twice."""
    idempotent: bool
    """Whether a second call with the same idempotency key changes nothing more."""
    checker: Checker | None
    """Says what became of a call that was under way when the process died."""
    network: str | Sequence[str]
    """The arguments that hold an address or a host, for `Policy(egress=...)`. Those of the format `uri` are known."""
    untrusted: bool
    """Whether anybody may have written what it gives: a model sees it sanitised and marked as data."""
    gives_back: bool
    """Whether it gives what runs wrote or read before: untrusted as soon as the run has read untrusted content."""
    sink: bool
    """Whether it needs a person's word once untrusted content came into the run."""


PLAIN = "a plain function (def, not async def): it is asked right before the call, and answers at once"
"""What to do about a question about arguments that is async."""
EFFECTS = ("needs_approval", "side_effects", "idempotent", "checker", "network", "untrusted", "gives_back", "sink")
"""The options that another framework's tool may carry as attributes."""


def check_options(tool: str, options: Mapping[str, object]) -> None:
    """Complain about options that cannot be.

    Raises:
        ConfigurationError: Which one, and what it should be.
    """
    for name, none in (("timeout", "for any time"), ("cache", "to keep nothing")):
        seconds = options.get(name)
        if seconds is not None and not (_is_number(seconds) and cast("float", seconds) > 0):
            raise ConfigurationError(f"{name} is {brief(seconds, 80)}", hint=f"seconds above 0, or None {none}")
    for name in ("side_effects", "idempotent", "untrusted", "gives_back", "sink"):
        if not isinstance(options.get(name, False), bool):
            raise ConfigurationError(f"tool `{tool}`: {name} is {brief(options[name], 80)}", hint="True or False")
    asks = options.get("needs_approval", False)
    if not isinstance(asks, bool) and not callable(asks):
        hint = "True, False, or a function of the arguments"
        raise ConfigurationError(f"tool `{tool}`: needs_approval is {brief(asks, 80)}", hint=hint)
    if is_async(asks):
        raise ConfigurationError(f"tool `{tool}`: needs_approval is {brief(asks, 80)}, which is async", hint=PLAIN)
    checker = options.get("checker")
    if checker is not None and not callable(checker):
        hint = "a function of the call that returns its result, or None if it was not made"
        raise ConfigurationError(f"tool `{tool}`: checker is {brief(checker, 80)}", hint=hint)
    network = options.get("network", ())
    names = cast("Sequence[object]", network) if isinstance(network, Sequence) else [None]
    if not all(isinstance(one, str) for one in names):
        hint = 'the names of arguments: network=("url",)'
        raise ConfigurationError(f"tool `{tool}`: network is {brief(options['network'], 80)}", hint=hint)


def is_async(asked: object) -> bool:
    """Whether what is called gives something that must be awaited, as far as it says so: a function, or an object."""
    call = getattr(type(asked), "__call__", None)  # noqa: B004  what it is, not whether it can be called
    found = inspect.unwrap(asked) if callable(asked) else asked
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(kind(one) for kind in kinds for one in (asked, found, call))


def carried(foreign: object) -> dict[str, Any]:
    """The options that another framework's tool carries as attributes, where they can be what they are named after.

    A `needs_approval` that must be awaited asks for every call: it says that some need approval.
    """
    found: dict[str, Any] = {}
    for name in EFFECTS:
        try:
            value = getattr(foreign, name, None)
            if name == "needs_approval" and is_async(value):
                value = True
            check_options("", {name: value})
        except Exception:  # noqa: BLE001, S112  theirs, and something else; a foreign attribute may raise anything
            continue
        if value is not None:
            found[name] = value
    return found


def argument_names(network: str | Sequence[str]) -> tuple[str, ...]:
    return (network,) if isinstance(network, str) else tuple(network)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
