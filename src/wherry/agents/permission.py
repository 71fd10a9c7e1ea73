"""May this call be made? Asked for each call, right before it: of the tool, the policies over the run, the taint.

A call that needs a person's word is put as a question and the run ends there; it goes on when there is an answer. That
a call was approved is durable before it is made: so a question without that record says that it never was.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from wherry.agents.begun import begun_with, root_of
from wherry.agents.governing import policies
from wherry.agents.toolbox import READERS
from wherry.errors import ToolArgumentError
from wherry.journal import EventType
from wherry.messages import canonical
from wherry.policy.approvals import (
    ID_DIGITS,
    UNSET,
    Approval,
    Decision,
    Kind,
    ask,
    call_digest,
    close,
    find_approval,
)
from wherry.policy.rules import holds
from wherry.policy.versions import (
    MOST_DIFF,
    Version,
    approve_tool,
    approved_text,
    approved_tools,
    diff_of,
    version_of_tool,
)
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
class Permit:
    """What becomes of a call."""

    arguments: Mapping[str, Any]  # Any: JSON, or what a snippet gave
    """To make it with; a person may have changed them."""
    refusal: str | None = None
    """Why it is not made, for the model."""
    waits: Approval | None = None
    """What it waits for."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A call that was made before, with what it gave."""

    value: Any  # Any: JSON


@dataclass(frozen=True, slots=True)
class _Call:
    run: Run
    tool: Tool
    name: str
    call: str
    arguments: Mapping[str, Any]

    @property
    def version(self) -> Version:
        return version_of_tool(self.name, self.tool, code=self.name not in self.run.toolbox.agents)

    @property
    def tool_digest(self) -> str:
        return self.version.schema


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
    wanted = _Call(run, tool, name, call, arguments)
    found = _judged(wanted)
    if found.waits is not None:
        return found
    await _close(wanted)
    if found.refusal is None and found.arguments is not arguments:  # a person's
        try:
            checked = tool.checked(found.arguments)
        except ToolArgumentError as error:
            return Permit(found.arguments, refusal=f"it was approved with other arguments: {error.message}")
        if refusal := _denied(wanted, checked):
            return Permit(found.arguments, refusal=refusal)
    return found


async def decide_unknown(run: Run, tool: Tool, name: str, call: str, arguments: Mapping[str, Any]) -> Permit | Settled:
    """What becomes of a call that was begun and has no end in the records.

    One without side effects, or `idempotent`, is made again; a `checker` says of another what became of it; else a
    person does.
    """
    wanted = _Call(run, tool, name, call, arguments)
    known = run.past_call(call)
    in_doubt = known is not None and known.in_doubt
    if not tool.side_effects or tool.idempotent or (not in_doubt and _was_only_asked(wanted)):
        return await permit(run, tool, name, call, arguments)
    begun = begun_with(run, call, arguments)
    wanted = replace(wanted, arguments=begun)
    try:
        tool.checked(begun)
    except ToolArgumentError:
        return Permit(begun)  # it was never made, and cannot be: the call itself says so
    if tool.checker is not None:
        answer = await _checked_by(wanted)
        if isinstance(answer, Settled):
            return answer if answer.value is not None else await permit(run, tool, name, call, arguments)
        why = f"the process ended while the call was under way, and its checker cannot tell what became of it: {answer}"
    else:
        why = "the process ended while the call was under way, and nobody knows whether it took effect"
    found = _asked(wanted, "unknown", why, times=1 if known is None else known.times)
    if isinstance(found, Permit):
        return found
    await run.journal.commit()
    if found.result is not UNSET and found.approved:
        return Settled(found.result)
    again = begun if found.arguments is None else found.arguments
    refusal = found.reason
    if found.approved:
        try:
            refusal = _denied(wanted, tool.checked(again))
        except ToolArgumentError as error:
            refusal = f"it was approved with other arguments: {error.message}"
        new = None if refusal else _new_tool(replace(wanted, arguments=again))
        if new is not None and new.refusal is None:
            return new
        refusal = refusal if new is None else new.refusal
        if not refusal:
            await _close(wanted)
            return Permit(again)
    said = f": {refusal}" if refusal else ""
    return Permit(again, refusal=f"nobody knows whether the call took effect, and it is not made again{said}")


def _judged(wanted: _Call) -> Permit:
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
    found = _asked(wanted, "approval", why)
    if isinstance(found, Permit):
        return found
    if not found.approved:
        return Permit(wanted.arguments, refusal=f"denied by a person{f': {found.reason}' if found.reason else ''}")
    run.journal.send()
    return Permit(wanted.arguments if found.arguments is None else found.arguments)


def _denied(wanted: _Call, checked: Mapping[str, Any]) -> str:
    tool = wanted.tool
    for policy in policies(wanted.run):
        if refusal := policy.denied(wanted.name, tool.schema, argument_names(tool.network), checked):
            return refusal
    return ""


def _asks(wanted: _Call, checked: Mapping[str, Any]) -> str:
    asks = wanted.tool.needs_approval
    if asks is True or (asks is not False and holds(asks, checked)):
        return f"`{wanted.name}` needs approval"
    for policy in policies(wanted.run):
        if why := policy.asks(wanted.name, checked):
            return why
    return wanted.run.taint.objection(wanted.name, wanted.tool)


def _new_tool(wanted: _Call) -> Permit | None:
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
    found = _asked(wanted, "changed_tool", f"{what}, and the policy asks for approval of new tools")
    if isinstance(found, Permit):
        return found
    if not found.approved:
        return Permit(
            wanted.arguments, refusal=f"{what}; denied by a person{f': {found.reason}' if found.reason else ''}"
        )
    approve_tool(run.store, agent, name, wanted.tool_digest, text=wanted.version.text)
    return None


def _asked(wanted: _Call, kind: Kind, why: str, *, times: int = 0) -> Decision | Permit:
    """The answer to the question about exactly this call; if there is none yet, a permit that waits for it."""
    run = wanted.run
    bound = f"{run.step}:{wanted.call}:{times}" if times else f"{run.step}:{wanted.call}"
    arguments = as_json(dict(wanted.arguments))
    digest = call_digest(
        kind=kind,
        run_id=run.journal.run_id,
        call=bound,
        name=wanted.name,
        tool_digest=wanted.tool_digest,
        arguments=arguments,
    )
    id = f"ap-{digest[:ID_DIGITS]}"
    if run.store.approvals.get(id) is None:
        asked = Approval(
            id,
            run.journal.run_id,
            root_of(run),
            run.context.agent,
            wanted.call,
            wanted.name,
            arguments if isinstance(arguments, dict) else {},
            digest,
            why,
            kind,
            time.time(),
            schema=wanted.tool.schema.parameters,
            tool_digest=wanted.tool_digest,
            diff=_diff_of(wanted) if kind == "changed_tool" else "",
            text=wanted.version.text if kind == "changed_tool" else "",
        )
        ask(run.store, asked)
        _supersede(wanted, asked)
    approval = find_approval(run.store, id)
    if approval.digest != digest:
        return Permit(wanted.arguments, refusal="another call waits for approval under the same name; try it otherwise")
    if not _recorded(run, EventType.APPROVAL_REQUESTED, id):
        _record_question(run, approval)
    if approval.decision is None:
        return Permit(wanted.arguments, waits=approval)
    if not _recorded(run, EventType.APPROVAL_DECIDED, id):
        _record_answer(run, approval, approval.decision)
    return approval.decision


def _supersede(wanted: _Call, asked: Approval) -> None:
    """Close the questions about what this call was before: the tool or what it is called with is another one now."""
    run = wanted.run
    for event in run.past:
        payload = event.payload
        if event.type is not EventType.APPROVAL_REQUESTED or (payload["call"], payload["step"]) != (
            wanted.call,
            run.step,
        ):
            continue
        row = run.store.approvals.get(payload["id"])
        if row is not None and row.decision is None and payload["kind"] == asked.kind:
            said = Decision(False, reason=f"the call is another one now: {asked.id}", by="wherry")
            close(run.store, row.id, said)


def _record_question(run: Run, approval: Approval) -> None:
    run.journal.record(
        EventType.APPROVAL_REQUESTED,
        step=run.step,
        id=approval.id,
        call=approval.call,
        name=approval.name,
        arguments=as_json(approval.arguments),
        why=approval.why,
        kind=approval.kind,
        digest=approval.digest,
    )


def _record_answer(run: Run, approval: Approval, decision: Decision) -> None:
    run.journal.record(
        EventType.APPROVAL_DECIDED,
        step=run.step,
        id=approval.id,
        call=approval.call,
        name=approval.name,
        kind=approval.kind,
        **decision.to_json(),
    )


def _recorded(run: Run, type: EventType, id: str) -> bool:
    return any(event.type is type and event.payload.get("id") == id for event in run.past)


async def _close(wanted: _Call) -> None:
    """Before a call that was asked for is made: have it on record, durably, that it waits no more."""
    run, known = wanted.run, wanted.run.past_call(wanted.call)
    if known is None or not (known.waiting or known.in_doubt):
        return
    answered = {event.payload["id"] for event in run.past if event.type is EventType.APPROVAL_DECIDED}
    for event in run.past:
        payload = event.payload
        if event.type is not EventType.APPROVAL_REQUESTED or payload["id"] in answered:
            continue
        if payload["call"] != wanted.call or payload["step"] != run.step:
            continue
        approval = find_approval(run.store, payload["id"])
        if approval.decision is None:
            # It was approved under another question, or nobody asks for it any more.
            decision = Decision(True, reason="needs no answer any more", by="policy")
            close(run.store, approval.id, decision)
            _record_answer(run, approval, decision)
    await run.journal.commit()


def _was_only_asked(wanted: _Call) -> bool:
    """Whether the call was put as a question and no more: an approved call has that on record before it is made."""
    run = wanted.run
    for kind in ("approval", "changed_tool"):
        digest = call_digest(
            kind=kind,
            run_id=run.journal.run_id,
            call=f"{run.step}:{wanted.call}",
            name=wanted.name,
            tool_digest=wanted.tool_digest,
            arguments=as_json(dict(wanted.arguments)),
        )
        id = f"ap-{digest[:ID_DIGITS]}"
        if run.store.approvals.get(id) is not None and not any(
            event.type is EventType.APPROVAL_DECIDED and event.payload["id"] == id and event.payload["approved"]
            for event in run.past
        ):
            return True
    return False


async def _checked_by(wanted: _Call) -> Settled | str:
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


def _diff_of(wanted: _Call) -> str:
    """What is different about a tool since it was approved last."""
    before = approved_text(wanted.run.store, wanted.run.context.agent, wanted.name)
    return diff_of(before, wanted.version.text, wanted.name)[:MOST_DIFF]
