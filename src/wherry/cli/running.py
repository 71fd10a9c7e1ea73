"""`wherry run`: one task, from the first event to the exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wherry.agents import Agent
from wherry.agents.origin import made_by
from wherry.cli.ending import Exit, complain, exit_of, print_json
from wherry.cli.history import last_event, output_of
from wherry.cli.loading import Kind, agent_from, keep_in, plain_agent
from wherry.errors import MissingExtra, WherryError
from wherry.journal import Event, EventType
from wherry.observe.console import Console
from wherry.observe.visible import visible
from wherry.policy import Limits
from wherry.policy.approvals import Approval, waiting
from wherry.tools import as_text

Output = Literal["live", "answer", "json"]


@dataclass(slots=True)
class Ending:
    """What is known of a run at its end."""

    run_id: str
    finished: Event
    output: Any  # Any: JSON, whatever the agent answered
    warnings: list[str] = field(default_factory=list[str])
    pending: list[Approval] = field(default_factory=list["Approval"])
    """What waits for a person."""

    @property
    def status(self) -> str:
        return str(self.finished.payload["status"])

    def to_json(self) -> dict[str, Any]:
        payload = self.finished.payload
        return {
            "type": "result",
            "run_id": self.run_id,
            "status": self.status,
            "output": self.output,
            "steps": payload["steps"],
            "usage": payload["usage"],
            "warnings": self.warnings,
            "error": payload["error"],
            "pending": [approval.to_json() for approval in self.pending],
        }


class Playing:
    """One run under way, which a signal or a closed pipe can stop."""

    def __init__(self, agent: Agent, events: AsyncIterator[Event], *, run_id: str | None = None) -> None:
        """
        Args:
            agent: Whose run it is.
            events: Those of the run, which begins when they are asked for.
            run_id: Of a run that goes on.
        """
        self._agent = agent
        self._events = events
        self._run_id = run_id
        self._waiting: asyncio.Task[Any] | None = None
        self.stopped: Exit | None = None
        """Why the run was cancelled, if it was."""

    async def follow(self, *subscribers: Callable[[Event], None]) -> Ending:
        """Run, telling the subscribers of every event.

        Raises:
            WherryError: what ended the run, after its last event.
            CancelledError: it was stopped twice.
        """
        self._waiting = asyncio.current_task()
        finished: Event | None = None
        warnings: list[str] = []
        with self._signals():
            async for event in self._events:
                self._run_id = self._run_id or event.run_id
                if self.stopped is not None:  # before the run was under way
                    self._agent.cancel(self._run_id)
                for tell in subscribers:
                    tell(event)
                if event.type is EventType.WARNING:
                    warnings.append(str(event.payload["message"]))
                if event.type is EventType.RUN_FINISHED and event.run_id == self._run_id:
                    finished = event
        if finished is None and self._run_id is not None:  # it was over: nothing is done
            finished = last_event(self._agent.store, self._run_id)
        if finished is None or self._run_id is None:
            raise RuntimeError("the run ended without its last event")
        store = self._agent.store
        pending = waiting(store, run_id=self._run_id) if finished.payload["status"] == "waiting" else []
        return Ending(self._run_id, finished, output_of(store, finished), warnings, pending)

    @property
    def run_id(self) -> str | None:
        """Of the run, once it has begun."""
        return self._run_id

    def stop(self, why: Exit) -> None:
        """Cancel the run; a second time, do not wait for it to clean up."""
        again, self.stopped = self.stopped is not None, why
        if again and self._waiting is not None:
            self._waiting.cancel()
        elif self._run_id is not None:
            self._agent.cancel(self._run_id)

    @contextmanager
    def _signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        ours = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.TERMINATED}
        # What is ignored stays ignored: `nohup` starts a program so, for it to outlive its terminal.
        before = {number: signal.getsignal(number) for number in ours}
        caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in caught:
            loop.add_signal_handler(number, self.stop, ours[number])
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number] or signal.SIG_DFL)


def run_task(
    task: str,
    *,
    agent: str | None,
    model: str | None,
    kind: Kind,
    max_steps: int | None,
    limits: Limits | None,
    session: str | None,
    store: str | None,
    output: Output,
) -> Exit:
    """Run one task and show it; `store` goes before the agent's own.

    Raises:
        WherryError: what ended the run, or kept it from beginning.
    """
    worker = agent_from(agent, model=model) if agent else plain_agent(kind, model=model)
    check_model(worker)
    keep_in(worker, store)
    playing = Playing(worker, worker.astream(task, session=session, max_steps=max_steps, limits=limits))
    with made_by(said_of(agent, model, kind)):
        return play(playing, worker, output)


def play(playing: Playing, worker: Agent, output: Output) -> Exit:
    """Show a run until it ends; its agent's store is closed then.

    Raises:
        WherryError: what ended the run, or kept it from beginning.
    """
    try:
        ending = asyncio.run(_show(playing, output))
    except asyncio.CancelledError:
        return playing.stopped or Exit.INTERRUPTED
    except WherryError:
        _say_how_to_go_on(playing, "failed", output)
        raise
    finally:
        worker.store.close()
    _say_how_to_go_on(playing, ending.status, output, ending.pending)
    return playing.stopped or exit_of(ending.status)


def _say_how_to_go_on(playing: Playing, status: str, output: Output, pending: Sequence[Approval] = ()) -> None:
    if output == "json" or playing.run_id is None or playing.stopped is Exit.CLOSED:
        return
    if pending:
        from wherry.cli.approving import told

        complain("\n".join(line for approval in pending for line in told(approval)))
        complain(f"it waits; when that is decided: wherry resume {playing.run_id}")
    elif status not in ("completed", "waiting"):
        more = {"limit": " --limit NAME=VALUE", "max_steps": " --max-steps N"}.get(status, "")
        complain(f"go on with it: wherry resume {playing.run_id}{more}")


def said_of(agent: str | None, model: str | None, kind: Kind) -> dict[str, str | None]:
    """How a command made an agent, so that another one can from another folder."""
    if agent is not None:
        where, colon, name = agent.rpartition(":")
        if where.endswith(".py"):
            agent = f"{Path(where).resolve()}{colon}{name}"
    return {"agent": agent, "model": model, "kind": kind}


def check_model(agent: Agent) -> None:
    """Say that there is no model before a run is begun, not after.

    Raises:
        ModelNotConfigured, MissingExtra: the agent's model is the embedded one, and none can be used.
    """
    from importlib.util import find_spec

    if agent.model not in (None, "local"):
        return
    if find_spec("xllamacpp") is None:
        raise MissingExtra("no model was named, and the embedded one", "local")
    from wherry.models.local.catalogue import choose

    choose()


async def _show(playing: Playing, output: Output) -> Ending:
    if output == "json":
        ending = await playing.follow(lambda event: _guarded(playing, event_json(event)))
        _guarded(playing, ending.to_json())
        return ending
    if output == "answer":
        ending = await playing.follow()
        if ending.output is not None:
            text = as_text(ending.output)
            # A program that reads the answer gets it as it is; a terminal must not do what it says.
            sys.stdout.write((visible(text) if sys.stdout.isatty() else text) + "\n")
        return ending
    with Console(closed=lambda: playing.stop(Exit.CLOSED)) as console:
        try:
            ending = await playing.follow(console)
            if ending.output is not None:
                console.answer(as_text(ending.output))
        finally:
            console.close()
            console.summary()
    return ending


def event_json(event: Event) -> dict[str, Any]:
    """An event as `--json` prints it."""
    return {
        "type": event.type.value,
        "run_id": event.run_id,
        "parent_run_id": event.parent_run_id,
        "agent": event.agent,
        "seq": event.seq,
        "time": event.time,
        "payload": dict(event.payload),
    }


def _guarded(playing: Playing, value: object) -> None:
    if playing.stopped is Exit.CLOSED:
        return
    try:
        print_json(value)
    except BrokenPipeError:
        playing.stop(Exit.CLOSED)
