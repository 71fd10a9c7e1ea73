"""pydantic-ai over its OpenAI chat model. Its history processors are functions that the user writes: none is here."""

from __future__ import annotations

import script
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

provider = OpenAIProvider(base_url=f"{script.URL}/v1", api_key=script.KEY)
agent = Agent(OpenAIChatModel(script.MODEL, provider=provider), instructions=script.SYSTEM)


@agent.tool_plain
async def search(query: str) -> str:
    """Searches the archive."""
    return script.result(query)


agent.run_sync(script.TASK, usage_limits=UsageLimits(request_limit=None))
script.finish()
