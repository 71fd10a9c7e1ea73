"""A managed agent, as the tool that its manager calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wherry.agents.result import RunStatus
from wherry.agents.run import Order, Run
from wherry.errors import ConfigurationError, ToolError
from wherry.tools import Tool, tool

if TYPE_CHECKING:
    from wherry.agents.agent import Agent


def delegate(manager: Callable[[], Run], agent: Agent) -> Tool:
    """The tool by which `manager` asks `agent`. Each call is a run of its own, so calls may be made in parallel."""

    async def ask(task: str) -> Any:  # Any: the agent's output, of its own type
        from wherry.agents.runner import execute

        run = manager()
        if not task.strip():
            raise ToolError("the task is empty; say in full what is to be done")
        result = await execute(agent, Order(task, max_steps=agent.max_steps, limits=agent.limits), parent=run)
        if result.status is RunStatus.COMPLETED:
            return result.output
        if result.output is None:
            return f"[not finished: {result.status}: {result.reason}]"
        return f"[not finished: {result.status}] {result.output}"

    if not agent.name or not agent.description:
        raise ConfigurationError("a managed agent has no name or description", hint="give it both")
    # No time limit of its own: the run inside has steps and limits.
    return tool(ask, name=agent.name, description=agent.description, timeout=None)
