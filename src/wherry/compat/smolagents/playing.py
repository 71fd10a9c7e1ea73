"""One run of a face: from what `run` was given to its last step."""

from __future__ import annotations

import keyword
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast  # Any: answers and values are of any kind

from wherry.agents import RunStatus, active
from wherry.agents.run import Order
from wherry.agents.runner import execute
from wherry.agents.streaming import streaming
from wherry.compat.smolagents.agent_types import handle_agent_output_types
from wherry.compat.smolagents.amending import Left, state_of
from wherry.compat.smolagents.errors import (
    AgentError,
    AgentExecutionError,
    AgentGenerationError,
    AgentMaxStepsError,
)
from wherry.compat.smolagents.memory import ActionStep, FinalAnswerStep, PlanningStep
from wherry.compat.smolagents.monitoring import Timing, TokenUsage
from wherry.compat.smolagents.outputs import RunResult
from wherry.compat.smolagents.recording import InterruptedRun, Recording, current
from wherry.compat.smolagents.streaming import Caller
from wherry.compat.smolagents.text import truncate_content
from wherry.errors import ContextBudgetError, HookError, LimitReached, ModelError, SandboxError
from wherry.messages import canonical

if TYPE_CHECKING:
    from wherry.compat.smolagents.multi_step import MultiStepAgent


def steps_of(
    face: MultiStepAgent,
    task: str,
    images: Sequence[Any],
    additional_args: Mapping[str, Any] | None,
    max_steps: int | None,
    *,
    deltas: bool,
    session: str | None,
) -> Generator[Any]:
    """A run as a generator of its steps. It begins when the first is asked for.

    `session` is one with nothing behind it; None: the one that the agent's memory tells of.
    """
    face.state.update(additional_args or {})
    told = task
    if additional_args:
        shown = truncate_content(str(dict(additional_args)))
        told += (
            "\nYou have been provided with these additional arguments, that you can access directly using the "
            f"keys as variables:\n{shown}."
        )
    core, caller = face.core, Caller()
    core.sync()
    options: dict[str, Any] = {"inputs": _inputs(face), "session": session or face.session}
    if max_steps:
        options["max_steps"] = max_steps
    if session is None and not face.left.is_of(face.memory.steps):
        options["session"] = face.session = _session_of(face)
    order = core.order(task, options)
    recording = face.begin(told, images=images, caller=caller)
    face.left = Left()

    def stop() -> None:
        face.interrupt()
        active.cancel(recording.run_id)

    try:
        yield from caller.steps(partial(_play, face, order, recording, deltas), stop)
    except AgentError as error:
        error.run_id = recording.run_id or None
        face.logger.log_error(error.message)
        raise


async def _play(face: MultiStepAgent, order: Order, recording: Recording, deltas: bool) -> None:
    token = current.set(recording)
    try:
        with streaming(deltas):
            result = await execute(face.core, order)
    except InterruptedRun as error:
        raise AgentError(error.message) from error
    except (ModelError, ContextBudgetError, LimitReached) as error:
        raise AgentGenerationError(f"Error in generating model output:\n{error}") from error
    except SandboxError as error:
        raise AgentExecutionError(str(error)) from error
    except HookError as error:
        if error.hook.startswith("Recorder.") and error.__cause__ is not None:
            raise error.__cause__ from None  # a callback's own, as it raised it
        raise
    finally:
        current.reset(token)
    if result.status in (RunStatus.COMPLETED, RunStatus.MAX_STEPS, RunStatus.LIMIT):
        face.left = recording.edits.left(face.memory.steps)
    if result.status not in (RunStatus.COMPLETED, RunStatus.MAX_STEPS):
        raise AgentError(f"The run ended: {result.status}. {result.reason}".rstrip())
    output = handle_agent_output_types(result.output)
    step = FinalAnswerStep(output)
    await recording.closed(step)
    cast("Caller", recording.caller).emit(step)


def _session_of(face: MultiStepAgent) -> str:
    """A session that has behind it what the memory says: steps were put in, or changed since the last run."""
    session = f"smolagents-{uuid.uuid4().hex}"
    state = state_of(face.memory.steps)
    face.core.store.save_session(session, canonical(state), expected=0)
    return session


def _inputs(face: MultiStepAgent) -> dict[str, Any]:
    """What of the state can be a variable."""
    taken = {*face.functions, *face.tools, *face.managed_agents}
    return {
        name: value
        for name, value in face.state.items()
        if name.isidentifier() and not keyword.iskeyword(name) and name not in taken
    }


def full_result(face: MultiStepAgent, output: Any, started: float) -> RunResult:
    steps = [step for step in face.memory.steps if isinstance(step, ActionStep | PlanningStep)]
    usages = [step.token_usage for step in steps]
    total = None
    if all(usage is not None for usage in usages):
        known = [usage for usage in usages if usage is not None]
        total = TokenUsage(sum(u.input_tokens for u in known), sum(u.output_tokens for u in known))
    last = face.memory.steps[-1] if face.memory.steps else None
    state: Literal["success", "max_steps_error"] = "success"
    if isinstance(getattr(last, "error", None), AgentMaxStepsError):
        state = "max_steps_error"
    return RunResult(output, state, face.memory.get_full_steps(), total, Timing(started, time.time()))
