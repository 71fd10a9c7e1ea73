"""Going on with a run from its journal: after a crash, a limit, a cancel, a failure, or when a person has decided."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wherry.agents.active import under_way
from wherry.agents.orders import order_of
from wherry.agents.past import Past, read_past
from wherry.agents.result import RunResult, RunStatus
from wherry.agents.run import Order, Run
from wherry.agents.runner import execute
from wherry.errors import ConfigurationError, OutputError, RunNotFound
from wherry.journal import EventType, Subscriber
from wherry.messages import Message, Usage, parse
from wherry.policy import Limits
from wherry.policy.approvals import decide_all
from wherry.store import Store

if TYPE_CHECKING:
    from wherry.agents.agent import Agent, Approvals

_ENDED = frozenset({RunStatus.COMPLETED, RunStatus.MAX_STEPS, RunStatus.LIMIT})


async def resume(
    agent: Agent,
    run_id: str,
    *,
    approvals: Approvals | None = None,
    limits: Limits | None = None,
    max_steps: int | None = None,
    subscribers: Sequence[Subscriber] = (),
) -> RunResult:
    """Go on with a run where it stands; the recorded result of one that is done.

    Raises:
        RunNotFound: the agent's store has no such run.
        ConfigurationError: the run is under way in this process, is a part of another one, or is another kind of
            agent's.
        ApprovalError: something among `approvals` is no question of this run, or cannot be answered so.
        StoreConflict: another process goes on with it.
        WherryError: as `execute`.
    """
    store = agent.store
    row = store.run(run_id)
    if row.parent_run_id is not None:
        raise ConfigurationError(
            f"run {run_id!r} is a part of run {row.parent_run_id!r}", hint=f"go on with {_root(store, run_id)!r}"
        )
    if under_way(run_id):
        raise ConfigurationError(f"run {run_id!r} is under way in this process", hint="wait for it, or cancel it")
    past = read_past(store, run_id)
    if past.started["kind"] != agent.kind:
        raise ConfigurationError(
            f"run {run_id!r} is one of a {past.started['kind']!r} agent, and this is a {agent.kind!r} agent",
            hint="go on with it with an agent that is made as the one that began it",
        )
    if approvals:
        decide_all(store, run_id, approvals)
    with order_of(past, store, limits=limits, max_steps=max_steps) as order:
        if past.status is RunStatus.COMPLETED or (past.status is RunStatus.MAX_STEPS and order.max_steps <= past.step):
            return recorded_result(agent, past, store)
        return await execute(agent, order, subscribers=subscribers, past=past)


async def go_on_below(run: Run, agent: Agent, order: Order, run_id: str) -> RunResult:
    """What became of the run of an agent that a run had asked before it was interrupted.

    Raises:
        WherryError: as `execute`.
    """
    try:
        past = read_past(run.store, run_id)
    except RunNotFound:  # it was asked for, and the process ended before its first record
        return await execute(agent, order, parent=run, run_id=run_id)
    if past.finished is not None and past.status in _ENDED and past.finished["error"] is None:
        _returned(run, past)
        return recorded_result(agent, past, run.store)
    return await execute(agent, order, parent=run, past=past)


def _returned(run: Run, past: Past) -> None:
    """Have on record what a run below gave, where the process ended between that run's last record and this one's."""
    finished = past.finished or {}
    run.taint.restore({"untrusted": [*past.untrusted]})
    for event in run.past:
        payload = event.payload
        if event.type is not EventType.AGENT_RETURNED or payload["run_id"] != past.run_id:
            continue
        if "raised" not in payload and payload["status"] == past.status:
            return
    run.journal.record(
        EventType.AGENT_RETURNED,
        step=run.step,
        name=past.events[0].agent,
        run_id=past.run_id,
        status=past.status,
        preview=finished["preview"],
        usage=finished["usage"],
        **run.taint.to_json(),
    )


def recorded_result(agent: Agent, past: Past, store: Store) -> RunResult:
    """The result of a run that is over, as its journal has it.

    Raises:
        StoreError: its output is not in the store any more.
    """
    finished = past.finished or {}
    output: Any = finished["output"]
    ref = finished["ref"]
    if (said := finished.get("said")) is not None:
        output = Message.decode(store.message(said)).content
    if ref is not None:
        data = store.artifacts.read(ref)
        is_text = store.artifacts.info(ref).media_type == "text/plain"
        output = data.decode("utf-8", "surrogatepass") if is_text else parse(data)
    with suppress(OutputError):  # the agent's type may be another one now: the output is as it was written down
        output = agent.rules.typed(output)
    return RunResult(
        output,
        RunStatus(finished["status"]),
        past.run_id,
        usage=Usage.from_json(finished["usage"]),
        steps=finished["steps"],
        reason=finished.get("reason", ""),
        warnings=tuple(past.warnings),
        files=tuple(past.files.values()),
    )


def _root(store: Store, run_id: str) -> str:
    row = store.run(run_id)
    while row.parent_run_id is not None:
        row = store.run(row.parent_run_id)
    return row.run_id
