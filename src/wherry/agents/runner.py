"""From an order to a result: open what a run needs, play the loop, close it all, record how it ended."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import anyio

from wherry.agents.active import cancellable, in_session
from wherry.agents.agent import Agent
from wherry.agents.hooks import RunHooks
from wherry.agents.opening import Frame, given, kept_content, open_run
from wherry.agents.orders import TASK_CHARS, given_then, written_down, written_limits
from wherry.agents.origin import origin
from wherry.agents.past import Past
from wherry.agents.result import RunResult, RunStatus
from wherry.agents.run import Order, Run
from wherry.agents.spent import spent
from wherry.context.offload import references
from wherry.errors import LimitReached, StoreConflict, StoreError, WherryError
from wherry.failpoints import failpoint
from wherry.journal import EventType, Journal, RunJournal, Subscriber
from wherry.journal.process import this_process
from wherry.messages import JSON, Message, canonical, digest
from wherry.models import Model, ModelProfile, Prepared
from wherry.policy import Account
from wherry.redaction import redact_json
from wherry.store import Store
from wherry.tools import as_json, as_text, use_context
from wherry.tools.context import intent_of_call

OUTPUT_CHARS = 100_000
"""An output up to this size stands in its event; a larger one is kept as an artifact."""


PREVIEW_CHARS = 2000
SAID_CHARS = 1000
"""An output of a turn from this size on that is a message of the run is named by that."""
SAID_PREVIEW_CHARS = 200
"""Of such an output: whoever wants more has the message."""


async def execute(
    agent: Agent,
    order: Order,
    *,
    subscribers: Sequence[Subscriber] = (),
    parent: Run | None = None,
    call: str = "",
    past: Past | None = None,
    run_id: str | None = None,
) -> RunResult:
    """Run an agent to its end.

    Args:
        agent: who.
        order: what it is asked.
        subscribers: told of every event.
        parent: the run that asks.
        call: the name of its call, unique in its step.
        past: what is recorded of the run, which is then gone on with.
        run_id: what `parent` has on record already as the run that it asks for, of which nothing else is.

    Raises:
        ConfigurationError: the order is none that this agent can take; nothing was recorded.
        WherryError: what ended the run, with its `run_id`. The journal has it too.
    """
    agent.check_order(order)
    with in_session(agent.store if parent is None else parent.store, order.session):
        frame = await _framed(agent, order, subscribers, parent, call, past, run_id)
        return await _execute(frame)


async def _framed(
    agent: Agent,
    order: Order,
    subscribers: Sequence[Subscriber],
    parent: Run | None,
    call: str,
    past: Past | None,
    run_id: str | None,
) -> Frame:
    store = agent.store if parent is None else parent.store
    revision = _revision(store, order, past)
    if past is not None:
        above = None if parent is None else parent.journal
        journal = Journal.go_on(store, past.run_id, subscribers=subscribers, parent=above, seq=past.events[-1].seq)
        journal.record(
            EventType.RUN_RESUMED,
            step=past.step,
            after=past.status,
            max_steps=order.max_steps,
            limits=written_limits(order.limits),
            process=this_process(),
            **({} if order.session is None else {"session_revision": revision}),
        )
        await journal.commit()  # whoever else goes on with it has lost now
        failpoint("run.resumed")
    elif parent is None:
        journal = Journal.start(store, agent=agent.name or "agent", subscribers=subscribers)
    elif run_id is not None:
        journal = Journal.start(store, agent=agent.name or "managed_agent", parent=parent.journal, run_id=run_id)
    else:
        journal = await _called(parent, agent, order, call)
    account = Account(order.limits, run_id=journal.run_id, parent=None if parent is None else parent.account)
    frame = Frame(agent, order, journal, store, parent, account, past=past, revision=revision)
    if past is not None:
        used, charged = spent(store, past)
        account.restore(used, charged, above=False)  # the accounts above have it already
        frame.started -= past.seconds
    return frame


def _revision(store: Store, order: Order, past: Past | None) -> int:
    """How often its session had been saved when a run began with what that held."""
    if order.session is None:
        return 0
    if past is None or not past.asked_anyone:
        # Asked before the state is read: a save in between makes ours fail, never pass.
        return store.session_revision(order.session)
    return past.session_revision


async def _execute(frame: Frame) -> RunResult:
    agent, order, journal, parent = frame.agent, frame.order, frame.journal, frame.parent
    model = parent.model if parent is not None and agent.model is None else agent.resolved_model()
    if agent.hooks:
        frame.hooks = RunHooks(agent.hooks)
        frame.hooks.listen(journal)
    status, output = RunStatus.CANCELLED, None
    try:
        with cancellable(journal.run_id, seconds=frame.seconds_left) as scope:
            profile = await _prepared(frame, model)
            frame.run = await open_run(frame, model, profile)
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


async def _called(parent: Run, agent: Agent, order: Order, call: str) -> RunJournal:
    name = agent.name or "managed_agent"
    journal = parent.journal.child(name)
    said = intent_of_call()
    parent.journal.record(
        EventType.AGENT_CALLED,
        step=parent.step,
        name=name,
        call=call,
        run_id=journal.run_id,
        task=order.task[:TASK_CHARS],
        **({"intent": said} if said else {}),
    )
    await parent.journal.commit()  # what is about to happen is durable before it happens
    failpoint("child.called")
    return journal


async def _prepared(frame: Frame, model: Model) -> ModelProfile:
    """The model's profile once it is ready. The run's start is recorded as soon as it can be said what it runs on."""
    if frame.past is not None:
        frame.given = given_then(frame.past, frame.store)
        return await model.prepare() if isinstance(model, Prepared) else model.profile
    order, journal, store = frame.order, frame.journal, frame.store
    frame.given = given(order, journal, store) if order.inputs or order.files else ""
    frame.written = await written_down(order, frame.given, journal, store, code=frame.agent.tier is not None)
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


async def _finish(frame: Frame, status: RunStatus, output: Any, error: BaseException | None) -> RunResult:
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
        pending=tuple(run.pending) if run and status is RunStatus.WAITING else (),
        warnings=tuple(run.warnings) if run else (),
        files=tuple(run.files.values()) if run else (),
    )
    failure = error
    with anyio.CancelScope(shield=True):
        if run is not None and run.sandbox is not None:
            await run.sandbox.close()
        try:
            if run is not None:
                if frame.past is not None and frame.order.session is not None:
                    await journal.commit()  # if another process goes on with the run, its conversation is that one's
                await _leave_session(run, result)
                result = replace(result, warnings=tuple(run.warnings))
            ref = _kept_output(frame, output)
        except StoreError as broken:
            ref = None
            if error is None:
                failure, result = broken, replace(result, output=None, status=RunStatus.FAILED)
        failpoint("run.finishing")
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
        run.session_revision = run.store.save_session(run.order.session, state, expected=run.session_revision)
    except StoreConflict:
        if run.store.load_session(run.order.session) == state:
            # Ours: the process that this run goes on from ended between this save and the run's last record.
            run.session_revision = run.store.session_revision(run.order.session)
            return
        run.warn(
            f"session {run.order.session!r} was gone on with by another process meanwhile; this run is no part of it",
            "let one process at a time go on with a session; this run's own journal has everything",
        )


def _kept_output(frame: Frame, output: Any) -> str | None:
    """The reference of the artifact that holds an output which is too large for its event."""
    if len(as_text(output)) <= OUTPUT_CHARS:
        return None
    if isinstance(output, str):
        return kept_content(frame.store, frame.journal, output)
    return kept_content(frame.store, frame.journal, canonical(as_json(output)), media_type="application/json")


def _said_last(run: Run | None, output: Any) -> str | None:
    """The digest of the message that has the output, where it is a turn of a conversation: many texts, each once."""
    if run is None or run.order.conversation is None or not isinstance(output, str) or len(output) < SAID_CHARS:
        return None
    name = digest(redact_json(Message("assistant", output).encode()))
    return name if name == run.window.newest else None


def _record_end(frame: Frame, result: RunResult, ref: str | None, error: BaseException | None) -> None:
    text, run = as_text(result.output), frame.run
    usage = result.usage.to_json()
    said = None if ref else _said_last(run, result.output)
    preview = text[: PREVIEW_CHARS if said is None else SAID_PREVIEW_CHARS]
    frame.journal.record(
        EventType.RUN_FINISHED,
        status=result.status,
        preview=preview,
        output=None if ref or said else as_json(result.output),
        ref=ref,
        usage=usage,
        steps=result.steps,
        error=None if error is None else _said(error),
        **({} if said is None else {"said": said}),
        **({"reason": result.reason} if result.reason else {}),
        **({} if run is None or run.order.session is None else {"session_revision": run.session_revision}),
    )
    parent = frame.parent
    if parent is not None:
        parent.journal.record(
            EventType.AGENT_RETURNED,
            step=parent.step,
            name=frame.journal.agent,
            run_id=frame.journal.run_id,
            status=result.status,
            preview=preview,
            usage=usage,
            **({} if error is None else {"raised": True}),
            **(run.taint.to_json() if run is not None else {}),
        )


def _record_start(frame: Frame, profile: ModelProfile) -> None:
    from wherry import __version__

    agent, order, journal = frame.agent, frame.order, frame.journal

    journal.record(
        EventType.RUN_STARTED,
        task=order.task[:TASK_CHARS],
        kind=agent.kind,
        model=profile.name,
        window=profile.window,
        tools=[*agent.tools],
        agents=[*agent.team],
        tier=agent.tier,
        session=order.session,
        max_steps=order.max_steps,
        versions={"wherry": __version__, "python": platform.python_version()},
        order=frame.written,
        process=this_process(),
        **({"origin": made} if frame.parent is None and (made := origin()) else {}),
        **({} if order.session is None else {"session_revision": frame.revision}),
    )
    journal.send()


def _explain(error: BaseException, frame: Frame) -> None:
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
