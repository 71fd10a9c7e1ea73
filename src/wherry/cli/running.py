"""`wherry run`: one task, from the first event to the exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

from wherry.agents import Agent, RunOptions
from wherry.cli.ending import Exit, exit_of, print_json
from wherry.cli.history import output_of
from wherry.cli.loading import Kind, agent_from, keep_in, plain_agent
from wherry.errors import MissingExtra
from wherry.journal import Event, EventType
from wherry.observe.console import Console
from wherry.observe.visible import visible
from wherry.policy import Limits
from wherry.tools import as_text

Output = Literal["live", "answer", "json"]


@dataclass(slots=True)
class Ending:
    """What is known of a run at its end."""

    run_id: str
    finished: Event
    output: Any  # Any: JSON, whatever the agent answered
    warnings: list[str] = field(default_factory=list[str])

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
        }


class Playing:
    """One run under way, which a signal or a closed pipe can stop."""

    def __init__(self, agent: Agent, task: str, **options: Unpack[RunOptions]) -> None:
        self._agent = agent
        self._task = task
        self._options = options
        self._run_id: str | None = None
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
            async for event in self._agent.astream(self._task, **self._options):
                if self._run_id is None:
                    self._run_id = event.run_id
                    if self.stopped is not None:
                        self._agent.cancel(event.run_id)
                for tell in subscribers:
                    tell(event)
                if event.type is EventType.WARNING:
                    warnings.append(str(event.payload["message"]))
                if event.type is EventType.RUN_FINISHED and event.run_id == self._run_id:
                    finished = event
        if finished is None or self._run_id is None:
            raise RuntimeError("the run ended without its last event")
        return Ending(self._run_id, finished, output_of(self._agent.store, finished), warnings)

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
    playing = Playing(worker, task, session=session, max_steps=max_steps, limits=limits)
    try:
        ending = asyncio.run(_show(playing, output))
    except asyncio.CancelledError:
        return playing.stopped or Exit.INTERRUPTED
    finally:
        worker.store.close()
    return playing.stopped or exit_of(ending.status)


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
