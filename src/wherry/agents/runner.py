"""From an order to a result: open what a run needs, play the loop, close it all, record how it ended."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any, cast

import anyio

from wherry.agents import prompts
from wherry.agents.active import cancellable, in_session
from wherry.agents.agent import Agent
from wherry.agents.briefing import Briefing
from wherry.agents.hooks import RunHooks
from wherry.agents.keeping import keep_for
from wherry.agents.managed import delegate
from wherry.agents.metering import check_prices
from wherry.agents.result import RunResult, RunStatus
from wherry.agents.run import Order, Run, Unopened
from wherry.agents.summaries import summarizer
from wherry.agents.toolbox import Toolbox
from wherry.context import ContextWindow, Knowledge
from wherry.context.offload import references
from wherry.errors import LimitReached, StoreConflict, StoreError, WherryError
from wherry.journal import EventType, Journal, RunJournal, Subscriber
from wherry.messages import JSON, Message, canonical, parse
from wherry.models import Model, ModelProfile, Prepared
from wherry.policy import Account
from wherry.policy.taint import Taint
from wherry.sandbox.values import describe
from wherry.store import Store
from wherry.tools import ToolContext, as_json, as_text, use_context

OUTPUT_CHARS = 100_000
"""An output up to this size stands in its event; a larger one is kept as an artifact."""


@dataclass(slots=True)
class _Frame:
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


async def execute(
    agent: Agent, order: Order, *, subscribers: Sequence[Subscriber] = (), parent: Run | None = None
) -> RunResult:
    """Run an agent to its end.

    Raises:
        ConfigurationError: the order is none that this agent can take; nothing was recorded.
        WherryError: what ended the run, with its `run_id`. The journal has it too.
    """
    agent.check_order(order)
    with in_session(agent.store if parent is None else parent.store, order.session):
        return await _execute(agent, order, subscribers, parent)


async def _execute(agent: Agent, order: Order, subscribers: Sequence[Subscriber], parent: Run | None) -> RunResult:
    model = parent.model if parent is not None and agent.model is None else agent.resolved_model()
    if parent is None:
        journal = Journal.start(agent.store, agent=agent.name or "agent", subscribers=subscribers)
        frame = _Frame(agent, order, journal, agent.store, None, Account(order.limits, run_id=journal.run_id))
    else:
        journal = await _called(parent, agent, order)
        account = Account(order.limits, run_id=journal.run_id, parent=parent.account)
        frame = _Frame(agent, order, journal, parent.store, parent, account)
    if agent.hooks:
        frame.hooks = RunHooks(agent.hooks)
        frame.hooks.listen(journal)
    status, output = RunStatus.CANCELLED, None
    try:
        with cancellable(journal.run_id, seconds=order.limits.seconds) as scope:
            profile = await _prepared(frame, model)
            frame.run = await _open(frame, model, profile)
            with use_context(frame.run.context):
                status, output = await agent.play(frame.run)
        if status is RunStatus.CANCELLED and anyio.current_time() >= scope.deadline:
            status, frame.reason = RunStatus.LIMIT, f"the limit of {order.limits.seconds} seconds is reached"
            journal.record(EventType.LIMIT_REACHED, limit="seconds", value=order.limits.seconds)
    except LimitReached as reached:
        if reached.owner != journal.run_id:  # a run above this one is at its end, and this one with it
            await _finish(frame, RunStatus.LIMIT, None, reached)
            raise
        journal.record(EventType.LIMIT_REACHED, limit=reached.limit, value=_number(reached.value))
        status, frame.reason = RunStatus.LIMIT, reached.message
    except BaseException as error:
        if isinstance(error, Exception):
            status = RunStatus.FAILED
        _explain(error, frame)
        await _finish(frame, status, None, error)
        raise
    return await _finish(frame, status, output, None)


async def _called(parent: Run, agent: Agent, order: Order) -> RunJournal:
    name = agent.name or "managed_agent"
    journal = parent.journal.child(name)
    parent.journal.record(
        EventType.AGENT_CALLED, step=parent.step, name=name, run_id=journal.run_id, task=order.task[:2000]
    )
    await parent.journal.commit()  # what is about to happen is durable before it happens
    return journal


async def _prepared(frame: _Frame, model: Model) -> ModelProfile:
    """The model's profile once it is ready. The run's start is recorded as soon as it can be said what it runs on."""
    early = not isinstance(model, Prepared) or (bool(model.profile.name) and model.profile.window is not None)
    if early:
        _record_start(frame, model.profile)
    try:
        profile = await model.prepare() if isinstance(model, Prepared) else model.profile
    except BaseException:
        if not early:
            _record_start(frame, model.profile)
        raise
    if not early:
        _record_start(frame, profile)
    return profile


async def _open(frame: _Frame, model: Model, profile: ModelProfile) -> Run:
    agent, order, journal, store = frame.agent, frame.order, frame.journal, frame.store
    agent.check_model(profile)
    check_prices(frame.account, _models(agent, model))
    context = ToolContext(journal.run_id, agent.name or "agent", order.session, store)
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
    )
    toolbox.refresh()
    warnings: list[str] = []

    def record(type: EventType, /, **payload: Any) -> None:  # Any: JSON
        if type == EventType.WARNING:
            warnings.append(payload["message"])
        journal.record(EventType(type), **payload)

    for message in briefing.warnings:
        record(EventType.WARNING, message=message, hint="the agent works without them")
    # Asked before the state is read: a save in between makes ours fail, never pass.
    revision = 0 if order.session is None else store.session_revision(order.session)
    state = _state(store, order.session)
    task = Message("user", order.task + _given(order, journal, store))
    summarize = summarizer(agent.context, model, journal, frame.account)
    if order.conversation is not None:
        unopened = Unopened(profile, agent.context, toolbox.system, task, toolbox.native, summarize)
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
        session_revision=revision,
        hooks=frame.hooks,
    )
    run.taint.restore(state)
    return run


def _brief(briefing: Briefing, order: Order, instructions: str | Knowledge | None) -> str:
    """What the system prompt says besides the rules: the agent's instructions, and where it speaks."""
    parts = (briefing.text(instructions), "" if order.conversation is None else order.conversation.setting(briefing.window))
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


async def _finish(frame: _Frame, status: RunStatus, output: Any, error: BaseException | None) -> RunResult:
    """Close what the run had open and record its end, even while it is being cancelled."""
    run, journal = frame.run, frame.journal
    reason = frame.reason or (run.reason if run else "")
    if status is RunStatus.MAX_STEPS and not reason:
        reason = f"max_steps={frame.order.max_steps} is reached"
    result = RunResult(
        output,
        status,
        journal.run_id,
        usage=replace(frame.account.usage, seconds=time.monotonic() - frame.started),
        steps=run.step if run else 0,
        reason=reason,
        warnings=tuple(run.warnings) if run else (),
        files=tuple(run.files.values()) if run else (),
    )
    failure = error
    with anyio.CancelScope(shield=True):
        if run is not None and run.sandbox is not None:
            await run.sandbox.close()
        try:
            if run is not None:
                await _leave_session(run, result)
                result = replace(result, warnings=tuple(run.warnings))
            ref = _kept_output(frame, output)
        except StoreError as broken:
            ref = None
            if error is None:
                failure, result = broken, replace(result, output=None, status=RunStatus.FAILED)
        _record_end(frame, result, ref, failure)
        if frame.hooks is not None:
            await frame.hooks.close()
            result = replace(result, warnings=(*result.warnings, *frame.hooks.warnings))
        try:
            await journal.commit()
        except StoreError as broken:
            failure = failure or broken
    if failure is not None and failure is not error:  # closing failed; an error of the run itself says more
        _explain(failure, frame)
        raise failure
    return result


async def _leave_session(run: Run, result: RunResult) -> None:
    """Keep where the conversation stands, if the run left it in order."""
    if run.order.session is None or result.status not in (RunStatus.COMPLETED, RunStatus.MAX_STEPS, RunStatus.LIMIT):
        return
    if result.status is RunStatus.COMPLETED and not run.spoken:
        await run.window.append(Message("assistant", as_text(result.output)))
    if result.status is RunStatus.LIMIT:
        # Roles take turns: behind what the model said last comes a user's message, which the next task is joined to.
        # Calls without a result get one that says so, as before any message.
        said_last = cast("dict[str, list[dict[str, Any]]]", run.window.state())["messages"][-1]
        role = "user" if said_last["role"] == "assistant" and not said_last.get("tool_calls") else "assistant"
        await run.window.append(Message(role, "[this run ended: limit]"))
    state = canonical({**cast("dict[str, JSON]", run.window.state()), **run.taint.to_json()})
    for ref in references(state.decode("utf-8", "replace")):
        with suppress(StoreError):  # it only looks like an artifact's
            run.store.artifacts.link(ref, f"session/{run.order.session}")
    try:
        run.store.save_session(run.order.session, state, expected=run.session_revision)
    except StoreConflict:
        run.warn(
            f"session {run.order.session!r} was gone on with by another process meanwhile; this run is no part of it",
            "let one process at a time go on with a session; this run's own journal has everything",
        )


def _kept_output(frame: _Frame, output: Any) -> str | None:
    """The reference of the artifact that holds an output which is too large for its event."""
    if len(as_text(output)) <= OUTPUT_CHARS:
        return None
    if isinstance(output, str):
        return _kept(frame.store, frame.journal, output)
    return _kept(frame.store, frame.journal, canonical(as_json(output)), media_type="application/json")


def _record_end(frame: _Frame, result: RunResult, ref: str | None, error: BaseException | None) -> None:
    text = as_text(result.output)
    usage = result.usage.to_json()
    frame.journal.record(
        EventType.RUN_FINISHED,
        status=result.status,
        preview=text[:2000],
        output=None if ref else as_json(result.output),
        ref=ref,
        usage=usage,
        steps=result.steps,
        error=None if error is None else _said(error),
    )
    parent = frame.parent
    if parent is not None:
        parent.journal.record(
            EventType.AGENT_RETURNED,
            step=parent.step,
            name=frame.journal.agent,
            run_id=frame.journal.run_id,
            status=result.status,
            preview=text[:2000],
            usage=usage,
        )


UNSAFE = "the code that the model writes runs without a sandbox: sandbox='unsafe'"


def _record_start(frame: _Frame, profile: ModelProfile) -> None:
    from wherry import __version__

    agent, order, journal = frame.agent, frame.order, frame.journal

    journal.record(
        EventType.RUN_STARTED,
        task=order.task[:2000],
        kind=agent.kind,
        model=profile.name,
        window=profile.window,
        tools=[*agent.tools],
        agents=[*agent.team],
        tier=agent.tier,
        session=order.session,
        max_steps=order.max_steps,
        versions={"wherry": __version__, "python": platform.python_version()},
    )
    journal.send()


def _given(order: Order, journal: RunJournal, store: Store) -> str:
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
            ref = _kept(store, journal, text)
            preview += "..." if ref is None else f"... (whole: artifact {ref})"
        previews[name] = preview
    return prompts.attached(previews, [path.name for path in order.files])


def _kept(store: Store, journal: RunJournal, content: str | bytes, *, media_type: str = "text/plain") -> str | None:
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


def _explain(error: BaseException, frame: _Frame) -> None:
    """Give an error that ends a run its id and what is known of the circumstances."""
    if not isinstance(error, WherryError):
        return
    if error.run_id is None:
        error.run_id = frame.journal.run_id
    run = frame.run
    if frame.parent is None and error.run_id != frame.journal.run_id:
        # The caller knows the run that it started; the one below it that failed is part of the diagnosis.
        error.diagnosis = {**(error.diagnosis or {}), "failed_run": error.run_id}
        error.run_id = frame.journal.run_id
    if error.diagnosis is None:
        error.diagnosis = {
            "error": type(error).__name__,
            "kind": getattr(error, "kind", None),
            "step": run.step if run else 0,
            "window": run.profile.window if run else None,
        }


def _number(value: Decimal | float) -> JSON:
    return str(value) if isinstance(value, Decimal) else value


def _said(error: BaseException) -> str:
    text: Any = error.message if isinstance(error, WherryError) else str(error)
    return f"{type(error).__name__}: {text}"[:2000]
