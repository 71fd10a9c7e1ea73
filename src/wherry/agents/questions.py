"""The question that a call waits for: put, answered, closed, and on record in the run that the call is of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.agents.begun import root_of
from wherry.journal import EventType
from wherry.policy.approvals import ID_DIGITS, Approval, Decision, Kind, ask, call_digest, close, find_approval
from wherry.policy.versions import MOST_DIFF, Version, approved_text, diff_of, version_of_tool
from wherry.tools import Tool, as_json

if TYPE_CHECKING:
    from wherry.agents.run import Run


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
class Wanted:
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


def asked(wanted: Wanted, kind: Kind, why: str, *, times: int = 0) -> Decision | Permit:
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
        question = Approval(
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
        ask(run.store, question)
        _supersede(wanted, question)
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


def _supersede(wanted: Wanted, instead: Approval) -> None:
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
        if row is not None and row.decision is None and payload["kind"] == instead.kind:
            said = Decision(False, reason=f"the call is another one now: {instead.id}", by="wherry")
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


async def close_questions(wanted: Wanted) -> None:
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


def was_only_asked(wanted: Wanted) -> bool:
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


def _diff_of(wanted: Wanted) -> str:
    """What is different about a tool since it was approved last."""
    before = approved_text(wanted.run.store, wanted.run.context.agent, wanted.name)
    return diff_of(before, wanted.version.text, wanted.name)[:MOST_DIFF]
