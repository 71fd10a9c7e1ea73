"""Agents: the loop, and the two kinds that play it."""

from wherry.agents.agent import Agent, RunOptions
from wherry.agents.code_agent import CodeAgent
from wherry.agents.result import RunResult, RunStatus
from wherry.agents.tool_calling_agent import ToolCallingAgent

__all__ = ["Agent", "CodeAgent", "RunOptions", "RunResult", "RunStatus", "ToolCallingAgent"]
