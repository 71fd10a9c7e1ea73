"""Calling a tool or a managed agent on a model's behalf: recorded before, recorded after, mendable errors told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wherry.agents.run import Run
from wherry.errors import ToolError, WherryError
from wherry.journal import EventType
from wherry.messages import Usage, canonical
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
    ref: str | None = None
    """The artifact that holds the value, if it was too large for its event."""

    @property
    def text(self) -> str:
        return as_text(self.value) if self.ok else f"Error: {self.error}"


def announce(run: Run, name: str, call: str, arguments: Mapping[str, Any]) -> None:
    """Record that a tool is about to be called. The caller commits before the call runs.

    A managed agent announces itself when it has a run of its own to name.
    """
    if name not in run.toolbox.agents:
        _announce(run, name, call, arguments)


def refuse(run: Run, name: str, call: str, arguments: Mapping[str, Any], problem: str) -> Outcome:
    """Record a call that cannot be made, and why."""
    outcome = Outcome(ok=False, error=problem)
    _announce(run, name, call, arguments)
    run.account.add(Usage(tool_calls=1))
    _record(run, name, call, outcome, 0.0, keep_value=False)
    return outcome


async def perform(run: Run, name: str, call: str, arguments: Mapping[str, Any], *, keep_value: bool = False) -> Outcome:
    """Run an announced call and record its result. Errors that a model can mend become the outcome's text."""
    tool = run.toolbox.tools.get(name)
    agent = name in run.toolbox.agents
    started = time.monotonic()
    if tool is None:
        run.account.add(Usage(tool_calls=1))
        outcome = Outcome(ok=False, error=unknown_tool(run, name))
    else:
        try:
            run.account.count_tool_call()
            outcome = Outcome(ok=True, value=await tool.call(arguments))
        except ToolError as error:
            outcome = Outcome(ok=False, error=error.message)
            if agent:  # its run was not begun, so nothing else says that it was asked
                _announce(run, name, call, arguments)
                agent = False
        except WherryError as error:
            # Not for the model to mend. Kept, not raised: calls that run beside this one are not lost with it.
            run.fatal = run.fatal or error
            outcome = Outcome(ok=False, error=error.message)
    if not agent:
        ref = _record(run, name, call, outcome, time.monotonic() - started, keep_value=keep_value)
        outcome = replace(outcome, ref=ref)
    return outcome


def unknown_tool(run: Run, name: str) -> str:
    return f"there is no tool {name!r}; there are: {', '.join(run.toolbox.tools) or 'none'}"


def _announce(run: Run, name: str, call: str, arguments: Mapping[str, Any]) -> None:
    run.journal.record(EventType.TOOL_CALLED, step=run.step, call=call, name=name, arguments=as_json(arguments))


def _record(run: Run, name: str, call: str, outcome: Outcome, seconds: float, *, keep_value: bool) -> str | None:
    """Record a result; the reference of the artifact that holds it, if it is kept and large."""
    text = outcome.text
    payload: dict[str, Any] = {"ref": None}
    if keep_value and outcome.ok:
        value = as_json(outcome.value)
        if len(text) <= INLINE_BYTES:
            payload["value"] = value
        else:
            kept = run.store.artifacts.put(canonical(value), media_type="application/json", run_id=run.journal.run_id)
            payload["ref"] = kept.ref
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
    return payload["ref"]
