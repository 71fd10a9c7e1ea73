"""Questions to people: what a call waits for, and what was decided.

A question is bound to the digest of the exact call: the run, the call's name in it, the tool and its schema, the
arguments. A call that differs in any of these is another question.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from typing import Any, Literal, cast

from wherry.errors import ApprovalError, ToolArgumentError
from wherry.messages import canonical, digest, parse
from wherry.redaction import redact_json
from wherry.store import ApprovalRow, Store
from wherry.tools import intent
from wherry.tools.arguments import Arguments
from wherry.tools.values import as_json, brief

Kind = Literal["approval", "unknown", "changed_tool"]

ID_DIGITS = 16
"""Digits of a call's digest that name its question. The whole digest is compared where an answer is used."""
MOST_BELOW = 100_000
"""Runs that one run started of which the questions are looked for."""
MOST_WAITING = 10_000
"""Questions among which the beginning of an id is looked for."""


class Unset(Enum):
    """That something was not given, where None is a value."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that waits for a person's word."""

    id: str
    run_id: str
    root_run_id: str
    """The run that a person started, at the top of the tree: the one to resume."""
    agent: str
    call: str
    """Names the call in its run."""
    name: str
    """The tool, as the model calls it."""
    arguments: Mapping[str, Any]  # Any: JSON
    digest: str
    """SHA-256 of all that the question is bound to."""
    why: str
    """Why a person is asked."""
    kind: Kind
    """`approval`: it needs a person's word. `unknown`: it was under way when the process died, and nobody knows whether
    it took effect. `changed_tool`: the tool is new, or another than the one that was approved."""
    created: float
    """Unix time in seconds."""
    _: KW_ONLY
    schema: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON Schema of the arguments."""
    tool_digest: str = ""
    """Of the tool's schema."""
    diff: str = ""
    """Of a tool that is new or changed: what is different."""
    text: str = ""
    """Of such a tool: what it is now."""
    decision: Decision | None = None
    """None while it waits."""

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("id", "run_id", "root_run_id", "agent", "call", "name", "digest", "why", "kind", "created")
        }
        out |= {"arguments": dict(self.arguments), "schema": dict(self.schema), "tool_digest": self.tool_digest}
        if self.kind == "changed_tool":
            out |= {"diff": self.diff, "text": self.text}
        if self.decision is not None:
            out["decision"] = self.decision.to_json()
        return out

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], decision: Decision | None = None) -> Approval:
        return cls(
            raw["id"],
            raw["run_id"],
            raw["root_run_id"],
            raw["agent"],
            raw["call"],
            raw["name"],
            raw["arguments"],
            raw["digest"],
            raw["why"],
            raw["kind"],
            raw["created"],
            schema=raw.get("schema", {}),
            tool_digest=raw.get("tool_digest", ""),
            diff=raw.get("diff", ""),
            text=raw.get("text", ""),
            decision=decision,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided."""

    approved: bool
    _: KW_ONLY
    reason: str = ""
    """For the model, where the call is denied; for the records in any case."""
    by: str = ""
    """Who decided."""
    arguments: Mapping[str, Any] | None = None  # Any: JSON
    """What the call is to be made with instead of what the model wanted."""
    result: object = UNSET
    """Of a call of the kind `unknown`: it was made, and this is what it gave."""

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"approved": self.approved, "reason": self.reason, "by": self.by}
        if self.arguments is not None:
            out["arguments"] = as_json(dict(self.arguments))
        if self.result is not UNSET:
            out["result"] = as_json(self.result)
        return out

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Decision:
        return cls(
            raw["approved"],
            reason=raw.get("reason", ""),
            by=raw.get("by", ""),
            arguments=raw.get("arguments"),
            result=raw.get("result", UNSET),
        )


def call_digest(*, kind: Kind, run_id: str, call: str, name: str, tool_digest: str, arguments: object) -> str:
    """The digest that an approval is bound to; of the arguments as they are written down."""
    return digest(redact_json(canonical([kind, run_id, call, name, tool_digest, as_json(arguments)])))


def ask(store: Store, approval: Approval) -> None:
    """Put a question; durable when this returns. Asking again is asking once."""
    row = ApprovalRow(
        approval.id, approval.run_id, approval.root_run_id, approval.created, canonical(approval.to_json())
    )
    store.approvals.put(row)


def waiting(store: Store, *, run_id: str | None = None, limit: int = 100) -> list[Approval]:
    """What waits in a run and all runs below it, or in all; oldest first."""
    return asked(store, run_id=run_id, pending=True, limit=limit)


def asked(store: Store, *, run_id: str | None = None, pending: bool | None = None, limit: int = 100) -> list[Approval]:
    """Questions of a run and all runs below it, or of all runs; oldest first. `pending`: those that wait (True) or are
    answered."""
    found = store.approvals.find(root_run_id=run_id, pending=pending, limit=limit)
    if found or run_id is None:
        return [_read(row) for row in found]
    below = [run_id]  # of a run in the middle of a tree, its own and those below
    for name in below:
        below += [run.run_id for run in store.runs(parent=name, limit=MOST_BELOW)]
    rows = [row for name in below for row in store.approvals.find(run_id=name, pending=pending, limit=limit)]
    return [_read(row) for row in sorted(rows, key=lambda row: (row.created, row.id))[:limit]]


def find_approval(store: Store, id: str) -> Approval:
    """The question of that id, or the only waiting one whose id begins so.

    Raises:
        ApprovalError: There is none, or several begin so.
    """
    row = store.approvals.get(id)
    if row is not None:
        return _read(row)
    begun = [row for row in store.approvals.find(pending=True, limit=MOST_WAITING) if row.id.startswith(id)]
    if len(begun) == 1 and id:
        return _read(begun[0])
    what = f"{len(begun)} ids begin with" if begun else "there is no approval"
    raise ApprovalError(f"{what} {id!r}", hint="`wherry approvals` lists what waits")


def decide(store: Store, id: str, decision: Decision | bool, *, by: str = "") -> Approval:
    """Answer a question, for good; the question with its answer.

    Raises:
        ApprovalError: There is no such question, it was answered already, or the answer does not fit it.
    """
    approval = find_approval(store, id)
    decision = _with_intent(approval, _given(approval, decision, by))
    check_decision(approval, decision)
    at = time.time()
    if approval.decision is not None or not store.approvals.decide(approval.id, canonical(decision.to_json()), at):
        raise _decided(find_approval(store, approval.id))
    if approval.kind == "changed_tool" and decision.approved:
        from wherry.policy.versions import approve_tool

        approve_tool(store, approval.agent, approval.name, approval.tool_digest, text=approval.text)
    return _read(cast("ApprovalRow", store.approvals.get(approval.id)))


def close(store: Store, id: str, decision: Decision) -> None:
    """Answer a question that nobody needs to answer any more. It stands for no person's word: it approves no tool."""
    store.approvals.decide(id, canonical(decision.to_json()), time.time())


def decide_all(store: Store, run_id: str, decisions: Mapping[str, Decision | bool]) -> None:
    """Answer questions of a tree of runs: all of them, or none if one cannot be answered so.

    Raises:
        ApprovalError: One is of another run, was answered already, or its answer does not fit it.
    """
    for id, decision in decisions.items():
        approval = find_approval(store, id)
        if approval.root_run_id != run_id:
            raise ApprovalError(f"{id} is a question of run {approval.root_run_id!r}, not of {run_id!r}")
        if approval.decision is not None:
            raise _decided(approval)
        check_decision(approval, _with_intent(approval, _given(approval, decision)))
    for id, decision in decisions.items():
        decide(store, id, decision)


def check_decision(approval: Approval, decision: Decision) -> None:
    """Refuse an answer that cannot be acted on.

    Raises:
        ApprovalError: What is wrong with it.
    """
    if not isinstance(cast("object", decision.approved), bool):
        shown = brief(decision.approved, 80)
        raise ApprovalError(f"the decision about {approval.id} has approved={shown}", hint="True or False")
    for name in ("reason", "by"):
        said = cast("object", getattr(decision, name))
        if not isinstance(said, str):
            raise ApprovalError(f"the decision about {approval.id} has {name}={brief(said, 80)}", hint="a text")
    for name, value in (("arguments", decision.arguments), ("result", decision.result)):
        if not _finite(value):
            what = f"{name} of the decision about {approval.id}"
            raise ApprovalError(f"{what} has NaN or infinity, which is no JSON", hint="give numbers")
    if decision.result is not UNSET and (approval.kind != "unknown" or not decision.approved):
        raise ApprovalError(
            f"{approval.id} takes no result", hint="only a call of which nobody knows whether it was made has one"
        )
    arguments = decision.arguments
    if arguments is None:
        return
    if approval.kind == "changed_tool" or not decision.approved or decision.result is not UNSET:
        raise ApprovalError(f"{approval.id} takes no other arguments: no call is approved with them")
    if not isinstance(cast("object", arguments), Mapping):
        raise ApprovalError(f"arguments is {brief(arguments, 80)}", hint="an object: argument -> value")
    try:
        check_arguments(approval.name, approval.schema, arguments)
    except ToolArgumentError as error:
        raise ApprovalError(
            f"{approval.id} cannot be approved with these arguments: {error.message}",
            hint=f"it was asked for with {brief(dict(approval.arguments), 500)}",
        ) from error
    written = canonical(as_json(dict(arguments)))
    if redact_json(written) is not written:
        raise ApprovalError(
            f"{approval.id} cannot be approved with these arguments: they hold a secret, which is not written down",
            hint="let the tool find it itself",
        )


def _given(approval: Approval, decision: object, by: str = "") -> Decision:
    if isinstance(decision, Decision):
        return decision
    if isinstance(decision, bool):
        return Decision(decision, by=by)
    raise ApprovalError(f"the decision about {approval.id} is {brief(decision, 80)}", hint="True, False or a Decision")


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, cast("Mapping[object, object]", value).values()))
    return not isinstance(value, list | tuple) or all(map(_finite, cast("list[object]", value)))


def _with_intent(approval: Approval, decision: Decision) -> Decision:
    """A decision whose arguments say what the call is for: what the model said, where the person says nothing else."""
    given = cast("object", decision.arguments)
    properties = approval.schema.get("properties", {})
    if not isinstance(given, Mapping) or intent.NAME in given or properties.get(intent.NAME) != intent.PARAMETER:
        return decision
    said = approval.arguments.get(intent.NAME, "")
    return replace(decision, arguments={**cast("Mapping[str, Any]", given), intent.NAME: said})


def check_arguments(tool: str, schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Check arguments by a schema alone, without the tool: names, and types as far down as they are simple.

    The tool checks the rest when the call is made.

    Raises:
        ToolArgumentError: They do not fit.
    """
    properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
    required = frozenset(cast("list[str]", schema.get("required", ())))
    known = {"type", "enum", "anyOf", "oneOf", "allOf", "const"}
    table = {
        name: {**({"type": "any"} if not known & body.keys() else body), "nullable": name not in required}
        for name, body in properties.items()
    }
    Arguments.declared(tool, table, ()).check(arguments)


def _decided(approval: Approval) -> ApprovalError:
    before = approval.decision
    said = "decided" if before is None else "approved" if before.approved else "denied"
    return ApprovalError(
        f"{approval.id} was {said} already{f' by {before.by}' if before is not None and before.by else ''}",
        hint="a decision stands; the run goes on by it with `wherry resume`",
    )


def _read(row: ApprovalRow) -> Approval:
    decision = None if row.decision is None else Decision.from_json(parse(row.decision))
    return Approval.from_json(parse(row.request), decision)
