"""One turn of a participant: a run of its own, and what came of it, whatever that was."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.agents.group.chat import GroupChat
from wherry.agents.group.seats import Seat
from wherry.agents.managed import ask_agent
from wherry.agents.past import read_past
from wherry.agents.result import RunStatus
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


async def turn(run: Run, group: GroupChat, seat: Seat, call: str, *, over: bool = False) -> Spoken:
    """Let a participant speak; in a run that is gone on with, take what is recorded of its turn.

    Args:
        run: The group's.
        group: It.
        seat: The participant's.
        call: A name of the turn, unique in the run.
        over: The turn came to its end before the run was interrupted, and the transcript may have what came of it.

    Raises:
        LimitReached: One of the group's limits, or of a run above it.
        StoreError: The store is broken.
        ConfigurationError: The participant cannot work as it is set up.
        Exception: What the participant raised, if the group's `on_error` says so.
    """
    agent, name = seat.agent, seat.name
    known = run.past_call(call)
    if over and known is not None and known.run_id is not None and (why := _failure(run, known.run_id)):
        return Spoken(name, note=_could_not(name, why))
    if known is None:
        run.account.count_tool_call()
    try:
        result = await ask_agent(run, agent, await _order(group, seat), call=call)
    except (LimitReached, StoreError, ConfigurationError):
        raise
    except Exception as error:
        if group.on_error == "raise":
            raise
        # As the turn's run has it on record: a chat that is gone on with takes it from there.
        said = error.message if isinstance(error, WherryError) else str(error)
        return Spoken(name, note=_could_not(name, f"{type(error).__name__}: {said}"), error=error)
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


def _could_not(name: str, why: str) -> str:
    return f"{name} could not speak: {why}"[:_ERROR_CHARS]


def _failure(run: Run, run_id: str) -> str:
    """The error that ended a turn's run; empty if none did."""
    finished = read_past(run.store, run_id).finished
    return "" if finished is None else str(finished["error"] or "")
