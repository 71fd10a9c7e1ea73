"""smolagents' ToolCallingAgent over its OpenAI client. It has no limit on the context."""

from __future__ import annotations

import script
from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent, tool


@tool
def search(query: str) -> str:
    """Searches the archive.

    Args:
        query: What to look for.
    """
    return script.result(query)


agent = ToolCallingAgent(
    tools=[search],
    model=OpenAIServerModel(script.MODEL, api_base=f"{script.URL}/v1", api_key=script.KEY),
    instructions=script.SYSTEM,
    verbosity_level=LogLevel.OFF,
    max_steps=script.STEPS + 5,
)
agent.run(script.TASK)
script.finish()
