"""pydantic-ai, whose whole history is given back to it each turn."""

from __future__ import annotations

import talk
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel(talk.MODEL, provider=OpenAIProvider(base_url=talk.URL, api_key=talk.KEY))
agent = Agent(model, instructions=talk.SYSTEM, model_settings={"max_tokens": talk.OUTPUT})
history: list = []


@agent.tool_plain
async def barrels(ship: int) -> int:
    """How many barrels a ship carries."""
    return ship * 13 % 97


def turn(number: int, words: str) -> None:
    result = agent.run_sync(words, message_history=history)
    history[:] = result.all_messages()


talk.talk(turn)
