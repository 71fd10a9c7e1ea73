"""The context bound: what a request may hold, and how a conversation is kept within it."""

from __future__ import annotations

from wherry.context.budget import DEFAULT_WINDOW, ContextBudget
from wherry.context.counting import TokenCounter
from wherry.context.escape import escape
from wherry.context.fitted import Fitted
from wherry.context.knowledge import Knowledge
from wherry.context.snapshots import Left
from wherry.context.window import ContextWindow

__all__ = ["DEFAULT_WINDOW", "ContextBudget", "ContextWindow", "Fitted", "Knowledge", "Left", "TokenCounter", "escape"]
