"""Functions of a program as tools, whatever they say of themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any  # Any: functions take and give what they like

from wherry.compat.smolagents.tools import SimpleTool, Tool
from wherry.errors import ConfigurationError
from wherry.tools.hints import documentation


def function_tool(name: str, function: Callable[..., Any]) -> Tool:
    """A tool of a function that need not have type hints or a docstring: it takes anything.

    Raises:
        ConfigurationError: it takes any number of arguments, or does not say which.
    """
    try:
        taken = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        taken = None
    if taken is None or any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in taken):
        raise ConfigurationError(
            f"the function {name!r} does not say what it takes", hint="wrap it in one whose parameters have names"
        )
    inputs: dict[str, dict[str, Any]] = {
        one.name: {
            "type": "any",
            "description": one.name,
            **({} if one.default is one.empty else {"nullable": True}),
        }
        for one in taken
    }
    by_place = [one.name for one in taken if one.kind is one.POSITIONAL_ONLY]

    def called(**given: Any) -> Any:
        """Tools are called by names, which functions of C often do not take."""
        first = [given.pop(one) for one in by_place if one in given]
        return function(*first, **given)

    made = SimpleTool(called if by_place else function, inputs, "any")
    made.name = name
    made.description = documentation(function.__doc__).description or "A function of the program."
    return made
