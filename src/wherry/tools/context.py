"""The run that a tool is called in.

A tool that needs the run's store, or wants to know who asks, reads `current_context()`. It is a context
variable: it reaches async tools, and sync tools in their threads, and concurrent runs do not see one another's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.errors import ToolError

if TYPE_CHECKING:
    from wherry.store.protocol import Store
    from wherry.tools.egress import Egress


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the run that called it."""

    run_id: str
    agent: str
    """The name of the agent that called."""
    session: str | None
    store: Store
    """Where the run is kept: memo, artifacts."""
    step: int = 0
    """The step of the run in which the tool is called; 0 outside of a call."""
    call: str = ""
    """The call's own name, unique in its step."""
    egress: Sequence[Egress] = ()
    """The lists of hosts that a network tool keeps to, all of them; see `wherry.tools.check_egress`."""
    intent: str = ""
    """What the model said that the call is for, where a policy wants to know."""

    @property
    def idempotency_key(self) -> str:
        """The same for a call however often it is made, after a crash too, and another one for every other call: give
        it to the service that the tool asks, which can then tell a repetition."""
        return f"{self.run_id}:{self.step}:{self.call}"


_context: ContextVar[ToolContext] = ContextVar("wherry_tool_context")


def current_context() -> ToolContext:
    """The run that the tool is called in.

    Raises:
        ToolError: No run is under way: the tool was called by hand, outside of `use_context`.
    """
    try:
        return _context.get()
    except LookupError:
        raise ToolError(
            "this tool works only inside a run: it needs the run's store",
            hint="let an agent call it, or wrap the call in `with use_context(ToolContext(...)):`",
        ) from None


def intent_of_call() -> str:
    """What the call that is under way was said to be for; empty where nobody asked, and outside of a call."""
    context = _context.get(None)
    return "" if context is None else context.intent


@contextmanager
def use_context(context: ToolContext) -> Generator[ToolContext]:
    """Let `current_context()` give `context` to everything called inside the `with` block."""
    token = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(token)
