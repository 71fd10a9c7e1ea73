"""`wherry resume`: a run that was interrupted, from where it stands."""

from __future__ import annotations

from wherry.agents import Agent
from wherry.cli.ending import Exit
from wherry.cli.history import find_run
from wherry.cli.loading import Kind, agent_from, keep_in, plain_agent
from wherry.cli.running import Output, Playing, check_model, play
from wherry.errors import ConfigurationError
from wherry.journal import read_events
from wherry.policy import Limits
from wherry.store import open_store


def resume_run(
    beginning: str,
    *,
    agent: str | None,
    model: str | None,
    max_steps: int | None,
    limits: Limits | None,
    store: str | None,
    output: Output,
) -> Exit:
    """Go on with a run and show it. Its agent is made as `wherry run` made it, if it did and nothing else is named.

    Raises:
        ConfigurationError: how its agent is made was not recorded, and not said.
        RunNotFound: no run's id begins like that, or several do.
        WherryError: what ended the run.
    """
    worker = None if agent is None else agent_from(agent, model=model)
    if worker is not None:
        keep_in(worker, store)
        run_id = find_run(worker.store, beginning).run_id
        # Of a pruned run this says so, before anything says to go on with it.
        next(iter(read_events(worker.store, run_id)), None)
    else:
        run_id, worker = _made_again(beginning, model=model, store=store)
    check_model(worker)
    events = worker.aresume_stream(run_id, limits=limits, max_steps=max_steps)
    return play(Playing(worker, events, run_id=run_id), worker, output)


def _made_again(beginning: str, *, model: str | None, store: str | None) -> tuple[str, Agent]:
    """The run's id, and its agent."""
    kept = open_store(store)
    try:
        row = find_run(kept, beginning)
        first = next(iter(read_events(kept, row.run_id)))
    finally:
        kept.close()
    origin = first.payload.get("origin")
    if origin is None:
        raise ConfigurationError(
            f"run {row.run_id!r} was not started by a command, so how its agent is made is not known",
            hint=f"`wherry resume {row.run_id} --agent FILE.py:NAME`, or `agent.resume({row.run_id!r})` in the program",
        )
    kind: Kind = "tools" if origin["kind"] == "tools" else "code"
    model = model or origin["model"]
    named = origin["agent"]
    worker = plain_agent(kind, model=model) if named is None else agent_from(named, model=model)
    keep_in(worker, store)
    return row.run_id, worker
