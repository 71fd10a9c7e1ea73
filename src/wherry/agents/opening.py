"""What a run has before its first step: its window, its tools, what it was asked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from wherry.agents import prompts
from wherry.agents.agent import Agent
from wherry.agents.briefing import Briefing
from wherry.agents.governing import begin
from wherry.agents.hooks import RunHooks
from wherry.agents.keeping import keep_for
from wherry.agents.managed import delegate
from wherry.agents.metering import check_prices, count_alike
from wherry.agents.past import Past
from wherry.agents.run import Order, Run, Unopened
from wherry.agents.summaries import summarizer
from wherry.agents.toolbox import Toolbox
from wherry.context import ContextWindow, Knowledge, Left
from wherry.journal import EventType, RunJournal
from wherry.messages import JSON, Message, parse
from wherry.models import Model, ModelProfile
from wherry.policy import Account
from wherry.policy.taint import Taint
from wherry.sandbox.values import describe
from wherry.store import Store
from wherry.tools import ToolContext, as_text

UNSAFE = "the code that the model writes runs without a sandbox: sandbox='unsafe'"


@dataclass(slots=True)
class Frame:
    """What a run has before it is open, and still has when opening it failed."""

    agent: Agent
    order: Order
    journal: RunJournal
    store: Store
    parent: Run | None
    account: Account
    started: float = field(default_factory=time.monotonic)
    run: Run | None = None
    reason: str = ""
    hooks: RunHooks | None = None
    past: Past | None = None
    """Of a run that goes on."""
    revision: int = 0
    """How often the session had been saved when the run began."""
    written: dict[str, Any] = field(default_factory=dict[str, Any])
    """The order, as `run.started` has it."""
    given: str | None = None
    """What the task says of its inputs and files; None in a run that did not record it, as an earlier version's."""

    @property
    def seconds_left(self) -> float | None:
        """Of the run's time limit; what it took before it was interrupted is taken off."""
        limit = self.order.limits.seconds
        if limit is None or self.past is None:
            return limit
        return max(limit - self.past.seconds, 0.001)


async def open_run(frame: Frame, model: Model, profile: ModelProfile) -> Run:
    """Everything that the first step, or the next one of a run that goes on, needs.

    Raises:
        ConfigurationError: the agent and the model do not go together.
        StoreError: what the run had is not in the store any more.
    """
    agent, order, journal, store = frame.agent, frame.order, frame.journal, frame.store
    agent.check_model(profile)
    check_prices(frame.account, _models(agent, model))
    context = ToolContext(journal.run_id, agent.name or "agent", order.session, store)
    parent = frame.parent
    above = () if parent is None else (parent.agent, *parent.above)
    run: Run
    briefing = Briefing(order.task, store=store, profile=profile, budget=agent.context)
    await briefing.prepare(agent.instructions)
    toolbox = Toolbox(
        agent,
        prompt=lambda schemas, instructions: agent.prompt(schemas, profile, instructions),
        brief=partial(_brief, briefing, order),
        delegate=lambda managed: delegate(lambda: run, managed),
        hidden=agent.hidden_tools(),
        native=lambda schemas: agent.native(schemas, briefing.window),
        control_tokens=profile.control_tokens,
        above=above,
    )
    toolbox.refresh()
    warnings: list[str] = []

    def record(type: EventType, /, **payload: Any) -> None:  # Any: JSON
        if type == EventType.WARNING:
            warnings.append(payload["message"])
        journal.record(EventType(type), **payload)

    for message in briefing.warnings:
        record(EventType.WARNING, message=message, hint="the agent works without them")
    left = None if frame.past is None else _left(frame.past, journal, store, model)
    state = None if left is not None else _state(store, order.session)
    said = order.task if left is not None else order.task + _said_of_inputs(frame)
    task = Message("user", said, name=order.said_by)
    summarize = summarizer(agent.context, model, journal, frame.account)
    if order.conversation is not None and left is None:
        unopened = Unopened(journal, profile, agent.context, toolbox.system, task, toolbox.native, summarize)
        state = await order.conversation.state(unopened)
    window = ContextWindow(
        profile=profile,
        budget=agent.context,
        artifacts=store.artifacts,
        run_id=journal.run_id,
        record=record,
        keep=journal.keep,
        system=toolbox.system,
        task=task,
        state=state,
        tools=toolbox.native,
        summarize=summarize,
        left=left,
    )
    if agent.tier == "unsafe":
        record(EventType.WARNING, message=UNSAFE, hint="leave `sandbox` out to have the jail of this machine")
    run = Run(
        agent,
        order,
        journal,
        store,
        model,
        profile,
        window,
        toolbox,
        agent.rules,
        frame.account,
        context,
        Taint() if frame.parent is None else frame.parent.taint,
        warnings=warnings,
        session_revision=frame.revision,
        hooks=frame.hooks,
        above=above,
    )
    run.taint.restore(state)
    if frame.past is not None:
        _go_on(run, frame.past)
    begin(run)
    return run


def _go_on(run: Run, past: Past) -> None:
    """Let a run stand where it was interrupted."""
    run.step, run.requested, run.past, run.resumed = past.step, past.requested, past.events, past
    run.ran_code, run.files = past.ran_code, dict(past.files)
    run.warnings[:0] = past.warnings
    run.taint.restore({"untrusted": [*past.untrusted]})


def _left(past: Past, journal: RunJournal, store: Store, model: Model) -> Left | None:
    """Its window; None if it never made a request."""
    if past.snapshot is None:
        return None

    def read(digests: Sequence[str]) -> dict[str, Message]:
        names = set(digests)
        found = store.messages(names)
        for name in names - found.keys():
            store.message(name)  # says what is wrong
        journal.knows(names)
        return {name: Message.decode(body) for name, body in found.items()}

    return Left(past.snapshot, past.told, read, past.asked if count_alike(model) else ())


def _brief(briefing: Briefing, order: Order, instructions: str | Knowledge | None) -> str:
    """What the system prompt says besides the rules: the agent's instructions, and where it speaks."""
    parts = (
        briefing.text(instructions),
        "" if order.conversation is None else order.conversation.setting(briefing.window),
    )
    return "\n\n".join(part for part in parts if part)


def _models(agent: Agent, own: Model, above: Sequence[Agent] = ()) -> Iterator[Model]:
    """Every model that a run of an agent may ask: its own, who writes summaries, its managed agents' own."""
    yield own
    if agent.context.summarizer is not None:
        yield agent.context.summarizer
    above = (*above, agent)
    for managed in agent.team.values():
        if managed not in above:
            yield from _models(managed, own if managed.model is None else managed.resolved_model(), above)


def _said_of_inputs(frame: Frame) -> str:
    """As it was said when the run began: what comes back of a value says another text."""
    return given(frame.order, frame.journal, frame.store) if frame.given is None else frame.given


def given(order: Order, journal: RunJournal, store: Store) -> str:
    """What the task says of its inputs and files: names, types, sizes, the head of each."""
    previews: dict[str, str] = {}
    for name, value in order.inputs.items():
        shape = describe(value)
        if shape is not None:
            previews[name] = shape
            continue
        text = as_text(value)
        preview = f"{type(value).__name__}, {len(text):,} characters: {text[:200]}"
        if len(text) > 200:
            ref = kept_content(store, journal, text)
            preview += "..." if ref is None else f"... (whole: artifact {ref})"
        previews[name] = preview
    return prompts.attached(previews, [path.name for path in order.files])


def kept_content(
    store: Store, journal: RunJournal, content: str | bytes, *, media_type: str = "text/plain"
) -> str | None:
    """The reference of a content that was too large to stand where it belongs; None where it cannot be stored."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content

    def warn(message: str, hint: str) -> None:
        journal.record(EventType.WARNING, message=message, hint=hint)

    kept = keep_for(store, journal.run_id, data, media_type=media_type, warn=warn)
    return None if kept is None else kept.ref


def _state(store: Store, session: str | None) -> JSON:
    """Where the conversation was left, if it goes on."""
    state = store.load_session(session) if session is not None else None
    return None if state is None else parse(state)
