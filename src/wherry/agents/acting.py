"""Calling a tool or a managed agent on a model's behalf: recorded before, recorded after, mendable errors told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wherry.agents.run import Run
from wherry.errors import ToolError, WherryError
from wherry.journal import EventType
from wherry.messages import Usage
from wherry.tools import as_json, as_text

PREVIEW_CHARS = 2000
"""How much of a result an event shows; the whole is in the message or the artifact."""
INLINE_BYTES = 65536
"""A code agent's tool result up to this size is kept in its event, so that the snippet can be run again from it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: a value, or a text that tells the model what went wrong."""

    ok: bool
    value: Any = None  # Any: whatever the tool returned
    error: str = ""

    @property
    def text(self) -> str:
        return as_text(self.value) if self.ok else f"Error: {self.error}"


def announce(run: Run, name: str, call: str, arguments: Mapping[str, Any]) -> None:
    """Record that a tool is about to be called. The caller commits before the call runs.

    A managed agent announces itself when it has a run of its own to name.
    """
    if name not in run.toolbox.agents:
        run.journal.record(EventType.TOOL_CALLED, step=run.step, call=call, name=name, arguments=as_json(arguments))


async def perform(run: Run, name: str, call: str, arguments: Mapping[str, Any], *, keep_value: bool = False) -> Outcome:
    """Run an announced call and record its result. Errors that a model can mend become the outcome's text."""
    tool = run.toolbox.tools.get(name)
    started = time.monotonic()
    if tool is None:
        outcome = Outcome(ok=False, error=unknown_tool(run, name))
    else:
        run.meter.add(Usage(tool_calls=1))
        try:
            outcome = Outcome(ok=True, value=await tool.call(arguments))
        except ToolError as error:
            outcome = Outcome(ok=False, error=error.message)
        except WherryError as error:
            # Not for the model to mend. Kept, not raised: calls that run beside this one are not lost with it.
            run.fatal = run.fatal or error
            outcome = Outcome(ok=False, error=error.message)
    if name not in run.toolbox.agents:
        _record(run, name, call, outcome, time.monotonic() - started, keep_value=keep_value)
    return outcome


def unknown_tool(run: Run, name: str) -> str:
    return f"there is no tool {name!r}; there are: {', '.join(run.toolbox.tools) or 'none'}"


def _record(run: Run, name: str, call: str, outcome: Outcome, seconds: float, *, keep_value: bool) -> None:
    text = outcome.text
    payload: dict[str, Any] = {}
    if keep_value and outcome.ok and len(text) <= INLINE_BYTES:
        payload["value"] = as_json(outcome.value)
    run.journal.record(
        EventType.TOOL_RETURNED,
        step=run.step,
        call=call,
        name=name,
        ok=outcome.ok,
        preview=text[:PREVIEW_CHARS],
        seconds=round(seconds, 6),
        **payload,
    )
