"""One turn of a participant: a run of its own, and what came of it, whatever that was."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.agents.agent import Agent
from wherry.agents.group.chat import GroupChat
from wherry.agents.group.seats import Seat
from wherry.agents.result import RunResult, RunStatus
from wherry.agents.run import Order, Run
from wherry.context.transcript import unsigned
from wherry.errors import ConfigurationError, LimitReached, StoreError, WherryError
from wherry.tools import as_text

_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came of a turn."""

    name: str
    text: str = ""
    """Empty: nothing was said."""
    note: str = ""
    """Why not, if that is to be noted for all."""
    error: Exception | None = None
    waiting: bool = False
    """The turn's run waits for a person, and the group with it."""


async def turn(run: Run, group: GroupChat, seat: Seat, call: str) -> Spoken:
    """Let a participant speak.

    Raises:
        LimitReached: One of the group's limits, or of a run above it.
        StoreError: The store is broken.
        ConfigurationError: The participant cannot work as it is set up.
        Exception: What the participant raised, if the group's `on_error` says so.
    """
    agent, name = seat.agent, seat.name
    try:
        result = await _asked(run, agent, await _order(group, seat), call)
    except (LimitReached, StoreError, ConfigurationError):
        raise
    except Exception as error:
        if group.on_error == "raise":
            raise
        said = error.message if isinstance(error, WherryError) else str(error)
        return Spoken(name, note=f"{name} could not speak: {type(error).__name__}: {said}"[:_ERROR_CHARS], error=error)
    if result.status is RunStatus.WAITING:
        return Spoken(name, waiting=True)
    text = "" if result.output is None else unsigned(as_text(result.output), name).strip()
    if not text and result.status is not RunStatus.COMPLETED:
        why = f": {result.reason}" if result.reason else ""
        return Spoken(name, note=f"{name} came to no end: {result.status}{why}"[:_ERROR_CHARS])
    return Spoken(name, text)


async def _order(group: GroupChat, seat: Seat) -> Order:
    agent, limits = seat.agent, seat.agent.limits
    if group.turn_seconds is not None:
        seconds = group.turn_seconds if limits.seconds is None else min(limits.seconds, group.turn_seconds)
        limits = replace(limits, seconds=seconds)
    if isinstance(agent, GroupChat):
        task = f"{seat.setting(8_192)}\n\nWhat was said so far:\n\n{await seat.as_text()}\n\n{seat.nudge}"
        return Order(task, max_steps=agent.max_steps, limits=limits)
    return Order(seat.nudge, max_steps=agent.max_steps, limits=limits, conversation=seat)


async def _asked(run: Run, agent: Agent, order: Order, call: str) -> RunResult:
    from wherry.agents.runner import execute

    return await execute(agent, order, parent=run)
