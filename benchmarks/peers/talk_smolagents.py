"""smolagents' ToolCallingAgent, which keeps all of its memory: one step a turn, and its closing answer."""

from __future__ import annotations

import talk
from smolagents import LogLevel, OpenAIServerModel, ToolCallingAgent, tool


@tool
def barrels(ship: int) -> int:
    """How many barrels a ship carries.

    Args:
        ship: The ship's number.
    """
    return ship * 13 % 97


model = OpenAIServerModel(talk.MODEL, api_base=talk.URL, api_key=talk.KEY, max_tokens=talk.OUTPUT)
agent = ToolCallingAgent(tools=[barrels], model=model, max_steps=1, verbosity_level=LogLevel.OFF)
# Its own system prompt takes more than the whole window here; what it says to the model is the user's to set.
agent.prompt_templates["system_prompt"] = talk.SYSTEM


def turn(number: int, words: str) -> None:
    agent.run(words, reset=number == 0)
    errors = [str(step.error) for step in agent.memory.steps if getattr(step, "error", None)]
    broken = [error for error in errors if "Error code" in error or "Connection" in error]
    if broken:
        raise RuntimeError(broken[-1])


talk.talk(turn)
