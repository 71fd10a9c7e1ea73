"""`--limit NAME=VALUE`, as `Limits`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from wherry.errors import ConfigurationError
from wherry.policy import Limits

_NAMES = tuple(field.name for field in fields(Limits))


def limits_from(options: Sequence[str]) -> Limits | None:
    """The limits that the command line names; None when it names none.

    Raises:
        ConfigurationError: one is written wrongly, named twice, or cannot be.
    """
    given: dict[str, float | str] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in _NAMES:
            raise ConfigurationError(
                f"--limit {option!r} is none", hint=f"write NAME=VALUE; the names are {', '.join(_NAMES)}"
            )
        if name in given:
            raise ConfigurationError(f"--limit {name} is given twice", hint="give it once")
        given[name] = _value(name, text.strip())
    return Limits(**given) if given else None  # pyright: ignore[reportArgumentType] - checked by the names above


def _value(name: str, text: str) -> float | str:
    if name == "usd":
        return text  # as it is written: Limits reads it as a decimal
    try:
        return float(text) if name == "seconds" else int(text.replace("_", ""))
    except ValueError:
        number = "number" if name == "seconds" else "whole number"
        raise ConfigurationError(f"--limit {name}={text}: {text!r} is no {number}", hint=f"give a {number}") from None
