"""Calling a tool or a managed agent on a model's behalf: recorded before, recorded after, mendable errors told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wherry.agents.handing import Handed, hand_in
from wherry.agents.past import PastCall
from wherry.agents.permission import Settled, decide_unknown, hosts, permit, permit_again
from wherry.agents.questions import Permit
from wherry.agents.run import Run, SuspendedError
from wherry.agents.whole_texts import kept_text, text_again
from wherry.context.untrusted import Untrusted
from wherry.errors import LimitReached, ToolError, WherryError
from wherry.failpoints import failpoint
from wherry.journal import EventType
from wherry.messages import Message, parse
from wherry.sandbox.values import Encoded
from wherry.tools import Tool, as_json, as_text, use_context
from wherry.tools.builtin.excerpts import Excerpt
from wherry.tools.intent import NAME as INTENT
from wherry.tools.intent import WithIntent

PREVIEW_CHARS = 2000
"""How much of a result an event shows; the whole is in the message or the artifact."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: a value, or a text that tells the model what went wrong."""

    ok: bool
    value: Any = None  # Any: whatever the tool returned
    error: str = ""
    handed: Handed | None = None
    """The value as a snippet gets it, if it was asked for."""
    untrusted: bool = False
    """Whether anybody may have written it."""

    @property
    def text(self) -> str:
        return as_text(self.value) if self.ok else f"Error: {self.error}"

    def observed(self, name: str) -> str:
        """What a model is to see of it, on its way into the window."""
        # An excerpt as it is: the window can make it smaller without making it false.
        text = self.value if self.ok and isinstance(self.value, Excerpt) else self.text
        return Untrusted(text, source=name) if self.untrusted else text


def announce(run: Run, name: str, call: str, arguments: Mapping[str, Any]) -> None:
    """Record that a tool is about to be called. The caller commits before the call runs.

    A managed agent announces itself when it has a run of its own to name; a call from before the run was interrupted is
    known already.
    """
    if name not in run.toolbox.agents and run.past_call(call) is None:
        _announce(run, name, call, arguments)


def refuse(run: Run, name: str, call: str, arguments: Mapping[str, Any], problem: str) -> Outcome:
    """Record a call that cannot be made, and why."""
    known = run.past_call(call)
    if known is not None and known.state == "done":
        return recorded(run, known, keep_value=False)
    outcome = Outcome(ok=False, error=problem)
    _announce(run, name, call, arguments)
    try:
        run.account.count_tool_call()
    except LimitReached as reached:
        run.fatal = run.fatal or reached
    _record(run, name, call, outcome, 0.0)
    return outcome


async def perform(run: Run, name: str, call: str, arguments: Mapping[str, Any], *, keep_value: bool = False) -> Outcome:
    """Run an announced call and record its result. Errors that a model can mend become the outcome's text.

    A call of the step in which the run was interrupted gives what is recorded of it.
    """
    known = run.past_call(call)
    if known is not None and known.state == "done":
        return recorded(run, known, keep_value=keep_value)
    tool = run.toolbox.tools.get(name)
    agent = name in run.toolbox.agents
    started = time.monotonic()
    given = arguments
    ended, counted = "", known is not None and not known.waiting
    try:
        if tool is not None and run.hooks is not None:
            given = await run.hooks.before_tool(name, call, arguments)
        permission = Permit(given) if tool is None else await _permission(run, tool, name, call, given)
        if not counted:
            run.account.count_tool_call()
            counted = True
        if tool is None:
            outcome = Outcome(ok=False, error=unknown_tool(run, name))
        elif isinstance(permission, Settled):
            outcome = Outcome(ok=True, value=permission.value)
        elif permission.refusal is not None:
            raise ToolError(permission.refusal)  # noqa: TRY301 - as any other that the model is told
        else:
            if known is not None and known.state == "unknown":  # begun once more
                _announce(run, name, call, arguments)
                await run.journal.commit()
            given = permission.arguments
            intent = str(given.get(INTENT, "")) if isinstance(tool, WithIntent) else ""
            context = replace(run.context, step=run.step, call=call, egress=hosts(run), intent=intent)
            with use_context(context):
                failpoint("call.committed")
                outcome = Outcome(ok=True, value=await tool.call(given))
                failpoint("tool.ran")
    except SuspendedError as suspended:
        return Outcome(ok=False, error=suspended.message)  # nothing is recorded: the call is looked at again
    except ToolError as error:
        outcome = Outcome(ok=False, error=error.message)
        if agent:  # its run was not begun, so nothing else says that it was asked
            _announce(run, name, call, arguments)
            agent = False
    except WherryError as error:
        # Not for the model to mend. Kept, not raised: calls that run beside this one are not lost with it.
        run.fatal = run.fatal or error
        outcome = Outcome(ok=False, error=error.message)
        ended = "error" if counted else "limit"
    if tool is not None and run.taint.of_result(name, tool, agent=agent):
        outcome = replace(outcome, untrusted=True)
    if run.hooks is not None:
        try:
            await run.hooks.after_tool(name, call, given, outcome)
        except WherryError as error:
            run.fatal = run.fatal or error
    if keep_value and outcome.ok:
        outcome = replace(outcome, handed=hand_in(run, outcome.value))
    if not agent:
        changed = None if given is arguments else given
        _record(run, name, call, outcome, time.monotonic() - started, changed, ended=ended)
        if tool is not None and tool.side_effects:
            run.journal.send()  # what cannot be done again is soon known to be done
    return outcome


def recorded(run: Run, known: PastCall, *, keep_value: bool) -> Outcome:
    """What is recorded of a call that came to its end before the run was interrupted.

    Raises:
        StoreError: what it gave is not in the store any more.
    """
    payload = known.returned or {}
    untrusted = "untrusted" in payload
    if not payload["ok"]:
        return Outcome(ok=False, error=payload["error"], untrusted=untrusted)
    if keep_value:
        tree = payload["value"] if "value" in payload else parse(run.store.artifacts.read(payload["ref"]))
        handed = Handed(Encoded(tree), payload["preview"], payload["ref"])
        return Outcome(ok=True, handed=handed, untrusted=untrusted)
    return Outcome(ok=True, value=text_again(run, payload), untrusted=untrusted)


async def _permission(run: Run, tool: Tool, name: str, call: str, arguments: Mapping[str, Any]) -> Permit | Settled:
    """What may be done about a call.

    Raises:
        SuspendedError: It waits for a person's word.
    """
    known = run.past_call(call)
    find = decide_unknown if known is not None and known.state == "unknown" else permit_again if run.past else permit
    found = await find(run, tool, name, call, arguments)
    if isinstance(found, Permit) and found.waits is not None:
        run.pending.append(found.waits)
        raise SuspendedError
    return found


def unknown_tool(run: Run, name: str) -> str:
    return f"there is no tool {name!r}; there are: {', '.join(run.toolbox.tools) or 'none'}"


def _announce(run: Run, name: str, call: str, arguments: Mapping[str, Any]) -> None:
    run.journal.record(EventType.TOOL_CALLED, step=run.step, call=call, name=name, arguments=as_json(arguments))


def _record(
    run: Run,
    name: str,
    call: str,
    outcome: Outcome,
    seconds: float,
    changed: Mapping[str, Any] | None = None,  # Any: JSON
    *,
    ended: str = "",
) -> None:
    """Record a result. It is kept whole: what a snippet got, so that the snippet can be run again from it, and what a
    model is to see, for a run that is interrupted before it does.
    """
    payload: dict[str, Any] = {"ref": None}
    if ended:
        payload["ended"] = ended
    if changed is not None:  # by a hook: the call itself was recorded as the model made it
        payload["arguments"] = as_json(changed)
    handed = outcome.handed
    if handed is not None:
        payload["ref"] = handed.ref
        if handed.ref is None or handed.handle:
            payload["value"] = handed.value.tree
    elif isinstance(outcome.value, Excerpt):
        payload["reader"] = True
    elif outcome.ok:
        seen = Message("tool", outcome.text, tool_call_id=call, name=name)
        payload |= kept_text(run, seen, most=PREVIEW_CHARS)
    if not outcome.ok:
        payload["error"] = outcome.error
    if outcome.untrusted:
        payload["untrusted"] = list(run.taint.sources)
    run.journal.record(
        EventType.TOOL_RETURNED,
        step=run.step,
        call=call,
        name=name,
        ok=outcome.ok,
        preview=(outcome.text if handed is None else handed.text)[:PREVIEW_CHARS],
        seconds=round(seconds, 6),
        **payload,
    )
