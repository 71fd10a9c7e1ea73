"""May this call be made? Asked for each call, right before it: of the tool, the policies over the run, the taint.

A call that needs a person's word is put as a question and the run ends there; it goes on when there is an answer. That
a call was approved is durable before it is made: so a question without that record says that it never was.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from wherry.agents.begun import begun_with, masked
from wherry.agents.governing import policies
from wherry.agents.questions import Permit, Wanted, asked, close_questions, was_only_asked
from wherry.agents.toolbox import READERS
from wherry.errors import ToolArgumentError
from wherry.messages import canonical
from wherry.policy.approvals import UNSET
from wherry.policy.rules import holds
from wherry.policy.versions import approve_tool, approved_tools
from wherry.redaction import redact_json
from wherry.tools import Egress, StartedCall, Tool, as_json
from wherry.tools.options import argument_names
from wherry.tools.threads import run_in_thread

if TYPE_CHECKING:
    from wherry.agents.run import Run

CHECKER_SECONDS = 300.0
"""That a tool's checker may take."""
_OWN = frozenset(tool.name for tool in READERS)


@dataclass(frozen=True, slots=True)
class Settled:
    """A call that was made before, with what it gave."""

    value: Any  # Any: JSON


def hosts(run: Run) -> Sequence[Egress]:
    """The lists of hosts that a network tool of the run keeps to."""
    return [policy.hosts for policy in policies(run) if policy.hosts is not None]


async def permit(run: Run, tool: Tool, name: str, call: str, arguments: Mapping[str, Any]) -> Permit:
    """Whether a call may be made now, and with what.

    Args:
        run: Whose model wants it.
        tool: What is called.
        name: What the model calls it by.
        call: Names the call in the run's step; the same when the step is repeated.
        arguments: By name.
    """
    if tool.needs_approval is False and run.resumed is None and not run.taint.entered:
        for policy in policies(run):
            if not policy.silent:
                break
        else:
            return Permit(arguments)  # nobody has anything to say: most calls of most programs
    wanted = Wanted(run, tool, name, call, arguments)
    found = _judged(wanted)
    if found.waits is not None:
        return found
    await close_questions(wanted)
    if found.refusal is None and found.arguments is not arguments:  # a person's
        try:
            checked = tool.checked(found.arguments)
        except ToolArgumentError as error:
            return Permit(found.arguments, refusal=f"it was approved with other arguments: {error.message}")
        if refusal := _denied(wanted, checked):
            return Permit(found.arguments, refusal=refusal)
    return found


async def permit_again(run: Run, tool: Tool, name: str, call: str, arguments: Mapping[str, Any]) -> Permit | Settled:
    """As `permit`, in a run that was resumed: what a call is made of may come from records without their secrets."""
    if masked(run, arguments):
        return await _unknown(Wanted(run, tool, name, call, arguments), masked=True)
    return await permit(run, tool, name, call, arguments)


async def decide_unknown(run: Run, tool: Tool, name: str, call: str, arguments: Mapping[str, Any]) -> Permit | Settled:
    """What becomes of a call that was begun and has no end in the records.

    One without side effects, or `idempotent`, is made again; a `checker` says of another what became of it; else a
    person does.
    """
    wanted = Wanted(run, tool, name, call, arguments)
    known = run.past_call(call)
    in_doubt = known is not None and known.in_doubt
    if not tool.side_effects or tool.idempotent or (not in_doubt and was_only_asked(wanted)):
        return await permit_again(run, tool, name, call, arguments)
    begun = begun_with(run, call, arguments)
    wanted = replace(wanted, arguments=begun)
    try:
        tool.checked(begun)
    except ToolArgumentError:
        return Permit(begun)  # it was never made, and cannot be: the call itself says so
    why = "the process ended while the call was under way, and "
    if tool.checker is not None:
        answer = await _checked_by(wanted)
        if isinstance(answer, Settled):
            return answer if answer.value is not None else await permit_again(run, tool, name, call, arguments)
        why += f"its checker cannot tell what became of it: {answer}"
    else:
        why += "nobody knows whether it took effect"
    return await _unknown(wanted, why, masked=masked(run, begun))


async def _unknown(wanted: Wanted, why: str = "", *, masked: bool) -> Permit | Settled:
    """What a person says becomes of a call. One whose arguments are `masked` is not made with them."""
    run, begun = wanted.run, wanted.arguments
    known = run.past_call(wanted.call)
    if masked:
        why = f"{why}; " if why else "the process ended before the call did; "
        why += "its arguments held a secret, which is not written down, so that it can be made with other ones only"
    found = asked(wanted, "unknown", why, times=1 if known is None else known.times)
    if isinstance(found, Permit):
        return found
    await run.journal.commit()
    if found.result is not UNSET and found.approved:
        return Settled(found.result)
    again = begun if found.arguments is None else found.arguments
    refusal = found.reason
    if found.approved:
        refusal = _not_again(wanted, again)
        if masked and found.arguments is None:
            refusal = "its arguments held a secret, which is not written down"
        new = None if refusal else _new_tool(replace(wanted, arguments=again))
        if new is not None and new.refusal is None:
            return new
        refusal = refusal if new is None else new.refusal
        if not refusal:
            await close_questions(wanted)
            return Permit(again)
    said = f": {refusal}" if refusal else ""
    return Permit(again, refusal=f"nobody knows whether the call took effect, and it is not made again{said}")


def _not_again(wanted: Wanted, arguments: Mapping[str, Any]) -> str:
    try:
        return _denied(wanted, wanted.tool.checked(arguments))
    except ToolArgumentError as error:
        return f"it was approved with other arguments: {error.message}"


def _judged(wanted: Wanted) -> Permit:
    new = _new_tool(wanted)
    if new is not None:
        return new
    run, tool = wanted.run, wanted.tool
    try:
        checked = tool.checked(wanted.arguments)
    except ToolArgumentError:
        return Permit(wanted.arguments)  # it cannot be made, which the call itself says: nobody is asked for it
    if refusal := _denied(wanted, checked):
        return Permit(wanted.arguments, refusal=refusal)
    if not (why := _asks(wanted, checked)):
        return Permit(wanted.arguments)
    written = canonical(as_json(wanted.arguments))
    if redact_json(written) is not written:
        return Permit(
            wanted.arguments,
            refusal="the call needs a person's approval, and its arguments hold a secret, which is not written down "
            "and so cannot be approved: let the tool find it itself",
        )
    found = asked(wanted, "approval", why)
    if isinstance(found, Permit):
        return found
    if not found.approved:
        return Permit(wanted.arguments, refusal=f"denied by a person{f': {found.reason}' if found.reason else ''}")
    run.journal.send()
    return Permit(wanted.arguments if found.arguments is None else found.arguments)


def _denied(wanted: Wanted, checked: Mapping[str, Any]) -> str:
    tool = wanted.tool
    for policy in policies(wanted.run):
        if refusal := policy.denied(wanted.name, tool.schema, argument_names(tool.network), checked):
            return refusal
    return ""


def _asks(wanted: Wanted, checked: Mapping[str, Any]) -> str:
    asks = wanted.tool.needs_approval
    if asks is True or (asks is not False and holds(asks, checked)):
        return f"`{wanted.name}` needs approval"
    for policy in policies(wanted.run):
        if why := policy.asks(wanted.name, checked):
            return why
    return wanted.run.taint.objection(wanted.name, wanted.tool)


def _new_tool(wanted: Wanted) -> Permit | None:
    """What becomes of a call of a tool that is new or changed; None where it may be called."""
    run, name = wanted.run, wanted.name
    modes = {policy.new_tools for policy in policies(run)} - {"allow"}
    if not modes or name in _OWN:
        return None
    agent, this = run.context.agent, (name, wanted.tool_digest)
    approved = run.governed.approved if run.governed is not None else set[tuple[str, str]]()
    if this in approved:
        return None
    known = approved_tools(run.store, agent) or frozenset()
    if this in known:
        approved.add(this)
        return None
    changed = any(other == name for other, _ in known)
    what = f"the tool `{name}` {'is another than the one that was approved' if changed else 'is new'}"
    if "deny" in modes:
        return Permit(wanted.arguments, refusal=f"{what}, and the policy allows no new tools")
    found = asked(wanted, "changed_tool", f"{what}, and the policy asks for approval of new tools")
    if isinstance(found, Permit):
        return found
    if not found.approved:
        return Permit(
            wanted.arguments, refusal=f"{what}; denied by a person{f': {found.reason}' if found.reason else ''}"
        )
    approve_tool(run.store, agent, name, wanted.tool_digest, text=wanted.version.text)
    return None


async def _checked_by(wanted: Wanted) -> Settled | str:
    """What a tool's checker says of a call: its result, None if it was not made; or why it cannot tell."""
    checker = wanted.tool.checker
    if checker is None:
        return Settled(None)
    run = wanted.run
    arguments = as_json(dict(wanted.arguments))
    key = f"{run.journal.run_id}:{run.step}:{wanted.call}"
    started = StartedCall(
        wanted.name, arguments if isinstance(arguments, dict) else {}, run.journal.run_id, wanted.call, key
    )
    try:
        if inspect.iscoroutinefunction(checker):
            answer: object = await checker(started)
        else:
            answer = await run_in_thread(partial(checker, started), timeout=CHECKER_SECONDS)
            if inspect.isawaitable(answer):
                answer = await answer
        return Settled(answer)
    except Exception as error:  # noqa: BLE001  a user's function: it cannot tell, so a person has to
        said = f"{type(error).__name__}: {error}"[:500]
        run.warn(f"the checker of `{wanted.name}` failed: {said}", "a person is asked instead")
        return said
