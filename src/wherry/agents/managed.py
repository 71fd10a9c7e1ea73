"""A managed agent, as the tool that its manager calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wherry.agents.result import RunResult, RunStatus
from wherry.agents.run import Order, Run, SuspendedError
from wherry.errors import ConfigurationError, ToolError
from wherry.failpoints import failpoint
from wherry.tools import Tool, check_name, current_context, tool

if TYPE_CHECKING:
    from wherry.agents.agent import Agent


async def ask_agent(run: Run, agent: Agent, order: Order, *, call: str) -> RunResult:
    """Let an agent do something as a part of this run.

    In a run that was interrupted: what came of it is taken from the journal if it had ended, and gone on with if not.
    What it waits for, if it does, is among the run's `pending` too.

    Args:
        run: Whose agent asks.
        agent: Who is asked.
        order: What.
        call: A name of this, unique in the run's step and the same when the step is repeated.

    Raises:
        WherryError: As `execute`.
    """
    from wherry.agents.resuming import go_on_below
    from wherry.agents.runner import execute

    known = run.past_call(call)
    if known is None or known.run_id is None:
        result = await execute(agent, order, parent=run, call=call)
    else:
        result = await go_on_below(run, agent, order, known.run_id)
    failpoint("child.returned")
    run.pending += result.pending
    return result


def delegate(manager: Callable[[], Run], agent: Agent) -> Tool:
    """The tool by which `manager` asks `agent`. Each call is a run of its own, so calls may be made in parallel."""

    async def ask(task: str) -> Any:  # Any: the agent's output, of its own type
        return await _asked(manager(), agent, task, {})

    async def ask_with(task: str, additional_args: dict[str, Any] | None = None) -> Any:
        return await _asked(manager(), agent, task, additional_args or {})

    if not agent.name or not agent.description:
        raise ConfigurationError("a managed agent has no name or description", hint="give it both")
    # No time limit of its own: the run inside has steps and limits.
    function = ask_with if agent.takes_additional_args else ask
    return tool(function, name=agent.name, description=agent.description, timeout=None)


async def _asked(run: Run, agent: Agent, task: str, inputs: Mapping[str, Any]) -> Any:
    if not task.strip():
        raise ToolError("the task is empty; say in full what is to be done")
    order = Order(task, inputs=inputs, max_steps=agent.max_steps, limits=agent.limits)
    if inputs:
        try:
            for name in inputs:
                check_name(name, "an input")
            agent.check_order(order)
        except ConfigurationError as error:  # of a model's making, so it is the model that is told
            raise ToolError(error.message) from error
    result = await ask_agent(run, agent, order, call=current_context().call)
    if result.status is RunStatus.WAITING:
        raise SuspendedError
    if result.status is RunStatus.COMPLETED:
        return result.output
    if result.output is None:
        return f"[not finished: {result.status}: {result.reason}]"
    return f"[not finished: {result.status}] {result.output}"
