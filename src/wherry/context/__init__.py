"""The context bound: what a request may hold, and how a conversation is kept within it.

Names load on first use: an agent is made with a budget, and needs the rest when it runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wherry.context.budget import DEFAULT_WINDOW, ContextBudget
from wherry.context.escape import escape  # has the name of its module, which would come in its place

if TYPE_CHECKING:
    from wherry.context.counting import TokenCounter
    from wherry.context.fitted import Fitted
    from wherry.context.knowledge import Knowledge
    from wherry.context.snapshots import Left
    from wherry.context.window import ContextWindow

__all__ = ["DEFAULT_WINDOW", "ContextBudget", "ContextWindow", "Fitted", "Knowledge", "Left", "TokenCounter", "escape"]

_HOMES = {
    "ContextWindow": "window",
    "Fitted": "fitted",
    "Knowledge": "knowledge",
    "Left": "snapshots",
    "TokenCounter": "counting",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
