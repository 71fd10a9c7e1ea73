"""The state of one run of one agent. Agents hold configuration; whatever a run changes is here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.agents.answers import AnswerRules
from wherry.agents.metering import pricing, usage_of
from wherry.agents.toolbox import Toolbox
from wherry.context import ContextWindow
from wherry.errors import ModelError, WherryError
from wherry.journal import EventType, RunJournal
from wherry.messages import Message, ToolCall, Usage
from wherry.models import FailureKind, Model, ModelProfile, ModelReply, ModelRequest
from wherry.policy import Account, Limits
from wherry.sandbox import Session
from wherry.tools import ToolContext

if TYPE_CHECKING:
    from wherry.agents.agent import Agent
    from wherry.store import Store


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked to do."""

    task: str
    _: KW_ONLY
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Any: the user's own values
    files: Sequence[Path] = ()
    session: str | None = None
    max_steps: int = 20
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Run:
    """One run under way."""

    agent: Agent
    order: Order
    journal: RunJournal
    store: Store
    model: Model
    profile: ModelProfile
    window: ContextWindow
    toolbox: Toolbox
    rules: AnswerRules
    account: Account
    context: ToolContext
    step: int = 0
    calls: int = 0
    spoken: bool = False
    """Whether the answer is the model's last message as it stands, and so in the conversation already."""
    warnings: list[str] = field(default_factory=list[str])
    sandbox: Session | None = None
    """The code agent's session, once a snippet has run."""
    fatal: WherryError | None = None
    """What a tool or a managed agent ran into that no model can mend; raised as soon as the turn is over."""

    async def ask(self, *, with_tools: bool = True) -> ModelReply:
        """One bounded request to the model; its reply is appended to the window and to the journal.

        Raises:
            ContextBudgetError: the pinned parts do not fit; nothing was sent.
            ModelError: the server failed.
        """
        if self.toolbox.refresh():
            self._record_toolbox()
        tools = self.toolbox.native if with_tools else ()
        fitted = await self.window.request(system=self.toolbox.system, tools=tools)
        journal = self.journal
        reservation = await self.account.reserve(fitted.tokens, fitted.max_output, pricing(self.profile))
        journal.record(
            EventType.MODEL_REQUESTED,
            step=self.step,
            keep=fitted.keep,
            add=list(fitted.add),
            tools_digest=self.toolbox.digest,
            max_output=reservation.max_output,
            tokens=fitted.tokens,
            window=fitted.window,
        )
        journal.send()
        started = time.monotonic()
        try:
            reply = await self.model.complete(ModelRequest(fitted.messages, tools, max_output=reservation.max_output))
        except BaseException as raised:
            spent = Usage(requests=1, seconds=time.monotonic() - started)
            if not isinstance(raised, ModelError) or raised.kind in _UNKNOWN_ENDINGS:
                reservation.lose(spent)
            else:
                reservation.settle(spent)
            if not isinstance(raised, Exception):
                raise
            error = raised if isinstance(raised, WherryError) else _of_a_model(raised)
            kind = error.kind if isinstance(error, ModelError) else type(error).__name__
            journal.record(EventType.MODEL_FAILED, step=self.step, kind=kind, message=error.message[:2000])
            if error is raised:
                raise
            raise error from raised
        said = 0 if reply.usage else self.window.counter.message(reply.message())
        usage = usage_of(reply, fitted.tokens, said, time.monotonic() - started, self.profile)
        reservation.settle(usage)
        if reply.usage is not None:
            self.window.report(reply.usage)
        calls = _with_ids(reply.tool_calls, self.step)
        await self.window.append(Message("assistant", reply.text, tool_calls=calls))
        journal.record(
            EventType.MODEL_REPLIED,
            step=self.step,
            message=self.window.newest,
            usage=usage.to_json(),
            seconds=round(usage.seconds, 6),
            finish_reason=reply.finish_reason,
            model=reply.model or self.profile.name,
            estimated=reply.usage is None,
        )
        return reply if calls == tuple(reply.tool_calls) else replace(reply, tool_calls=calls)

    async def tell(self, message: Message) -> None:
        """Append what the model is to see next."""
        await self.window.append(message)

    def warn(self, message: str, hint: str = "") -> None:
        self.warnings.append(message)
        self.journal.record(EventType.WARNING, message=message, hint=hint)

    def next_call(self) -> str:
        """A name for a tool call made from code: unique in the run and the same when the run is repeated."""
        self.calls += 1
        return f"{self.step}.{self.calls}"

    def _record_toolbox(self) -> None:
        before, after = self.toolbox.before, self.toolbox.digests
        if before is None:
            return
        self.journal.record(
            EventType.TOOLS_CHANGED,
            added=sorted(after.keys() - before.keys()),
            removed=sorted(before.keys() - after.keys()),
            changed=sorted(name for name in after.keys() & before.keys() if after[name] != before[name]),
        )


_UNKNOWN_ENDINGS = frozenset({FailureKind.Timeout, FailureKind.ConnectionLost})
"""Failures after which the server may have done, and charged, all of the work."""


def _of_a_model(error: Exception) -> ModelError:
    """What a user's own model raised, as what a model raises."""
    return ModelError(f"the model raised {type(error).__name__}: {error}")


def _with_ids(calls: Sequence[ToolCall], step: int) -> tuple[ToolCall, ...]:
    """Calls with an id each, all different: some servers send none, or the same one twice."""
    seen: set[str] = set()
    out: list[ToolCall] = []
    for number, call in enumerate(calls):
        unique = call if call.id and call.id not in seen else replace(call, id=f"call_{step}_{number}")
        seen.add(unique.id)
        out.append(unique)
    return tuple(out)
