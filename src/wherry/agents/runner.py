"""From an order to a result: open what a run needs, play the loop, close it all, record how it ended."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio

from wherry.agents import prompts
from wherry.agents.active import cancellable
from wherry.agents.agent import Agent
from wherry.agents.loop import play
from wherry.agents.managed import delegate
from wherry.agents.result import RunResult, RunStatus
from wherry.agents.run import Meter, Order, Run
from wherry.agents.toolbox import Toolbox
from wherry.context import ContextWindow
from wherry.errors import WherryError
from wherry.journal import EventType, Journal, RunJournal, Subscriber
from wherry.messages import JSON, Message, canonical, parse
from wherry.models import Model, ModelProfile, Prepared
from wherry.store import Store
from wherry.tools import ToolContext, as_json, as_text, use_context

OUTPUT_CHARS = 100_000
"""An output up to this size stands in its event; a larger one is kept as an artifact."""


async def execute(
    agent: Agent, order: Order, *, subscribers: Sequence[Subscriber] = (), parent: Run | None = None
) -> RunResult:
    """Run an agent to its end.

    Raises:
        WherryError: what ended the run, with its `run_id`. The journal has it too.
    """
    started = time.monotonic()
    model = agent.resolved_model() if agent.model is not None or parent is None else parent.model
    name = agent.name or ("agent" if parent is None else "managed_agent")
    if parent is None:
        store = agent.store
        journal = Journal.start(store, agent=name, subscribers=subscribers)
    else:
        store, journal = parent.store, parent.journal.child(name)
        parent.journal.record(
            EventType.AGENT_CALLED, step=parent.step, name=name, run_id=journal.run_id, task=order.task[:2000]
        )
    meter = Meter(parent.meter if parent is not None else None)
    run: Run | None = None
    status, output = RunStatus.CANCELLED, None
    failure: BaseException | None = None
    try:
        with cancellable(journal.run_id):
            _record_start(journal, agent, order, model.profile)
            run = await _open(agent, order, journal, store, model, meter)
            with use_context(run.context):
                status, output = await play(run, agent)
    except BaseException as error:
        failure = error
        if not isinstance(error, anyio.get_cancelled_exc_class() | KeyboardInterrupt):
            status = RunStatus.FAILED
        _explain(error, journal.run_id, run)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            result = RunResult(
                output,
                status,
                journal.run_id,
                usage=replace(meter.usage, seconds=time.monotonic() - started),
                steps=run.step if run else 0,
                warnings=tuple(run.warnings) if run else (),
            )
            await _close(run, journal, order, result, failure, parent, name, store)
    return result


async def _open(agent: Agent, order: Order, journal: RunJournal, store: Store, model: Model, meter: Meter) -> Run:
    profile = await model.prepare() if isinstance(model, Prepared) else model.profile
    agent.check_model(profile)
    context = ToolContext(journal.run_id, agent.name or "agent", order.session, store)
    run: Run
    toolbox = Toolbox(
        agent,
        prompt=lambda schemas: agent.prompt(schemas, profile),
        delegate=lambda managed: delegate(lambda: run, managed),
        hidden=agent.hidden_tools(),
        native=agent.native,
    )
    toolbox.refresh()
    warnings: list[str] = []

    def record(type: EventType, /, **payload: Any) -> None:  # Any: JSON
        if type == EventType.WARNING:
            warnings.append(payload["message"])
        journal.record(EventType(type), **payload)

    window = ContextWindow(
        profile=profile,
        budget=agent.context,
        artifacts=store.artifacts,
        run_id=journal.run_id,
        record=record,
        keep=journal.keep,
        system=toolbox.system,
        task=Message("user", order.task + _given(order, journal, store)),
        state=_state(store, order.session),
        tools=toolbox.native,
    )
    run = Run(
        agent, order, journal, store, model, profile, window, toolbox, agent.rules, meter, context, warnings=warnings
    )
    return run


async def _close(
    run: Run | None,
    journal: RunJournal,
    order: Order,
    result: RunResult,
    failure: BaseException | None,
    parent: Run | None,
    name: str,
    store: Store,
) -> None:
    if run is not None and run.sandbox is not None:
        await run.sandbox.close()
    if run is not None and order.session is not None and result.status in (RunStatus.COMPLETED, RunStatus.MAX_STEPS):
        if result.status is RunStatus.COMPLETED:
            await run.window.append(Message("assistant", as_text(result.output)))
        store.save_session(order.session, canonical(run.window.state()))
    text = as_text(result.output)
    ref = None
    if len(text) > OUTPUT_CHARS:
        ref = store.artifacts.put(
            text.encode("utf-8", "surrogatepass"), media_type="text/plain", run_id=journal.run_id
        ).ref
    journal.record(
        EventType.RUN_FINISHED,
        status=result.status,
        preview=text[:2000],
        output=None if ref else as_json(result.output),
        ref=ref,
        usage=result.usage.to_json(),
        steps=result.steps,
        error=None if failure is None else _said(failure),
    )
    if parent is not None:
        parent.journal.record(
            EventType.AGENT_RETURNED,
            step=parent.step,
            name=name,
            run_id=journal.run_id,
            status=result.status,
            preview=text[:2000],
            usage=result.usage.to_json(),
        )
    await journal.commit()


def _record_start(journal: RunJournal, agent: Agent, order: Order, profile: ModelProfile) -> None:
    from wherry import __version__

    journal.record(
        EventType.RUN_STARTED,
        task=order.task[:2000],
        kind=agent.kind,
        model=profile.name,
        window=profile.window,
        tools=[*agent.tools],
        agents=[*agent.managed_agents],
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
        text = as_text(value)
        preview = f"{type(value).__name__}, {len(text):,} characters: {text[:200]}"
        if len(text) > 200:
            kept = store.artifacts.put(
                text.encode("utf-8", "surrogatepass"), media_type="text/plain", run_id=journal.run_id
            )
            preview += f"... (whole: artifact {kept.ref})"
        previews[name] = preview
    return prompts.attached(previews, [path.name for path in order.files])


def _state(store: Store, session: str | None) -> JSON:
    """Where the conversation was left, if it goes on."""
    state = store.load_session(session) if session is not None else None
    return None if state is None else parse(state)


def _explain(error: BaseException, run_id: str, run: Run | None) -> None:
    """Give an error that ends a run its id and what is known of the circumstances."""
    if not isinstance(error, WherryError):
        return
    if error.run_id is None:
        error.run_id = run_id
    if error.diagnosis is None:
        error.diagnosis = {
            "error": type(error).__name__,
            "kind": getattr(error, "kind", None),
            "step": run.step if run else 0,
            "window": run.profile.window if run else None,
        }


def _said(error: BaseException) -> str:
    text: Any = error.message if isinstance(error, WherryError) else str(error)
    return f"{type(error).__name__}: {text}"[:2000]
