"""AutoGen 0.7's AssistantAgent over its OpenAI client; limited: by its token-limited context."""

from __future__ import annotations

import asyncio
import logging

import script
from autogen_agentchat.agents import AssistantAgent
from autogen_core.model_context import TokenLimitedChatCompletionContext
from autogen_ext.models.openai import OpenAIChatCompletionClient

logging.disable(logging.CRITICAL)


async def search(query: str) -> str:
    """Searches the archive."""
    return script.result(query)


async def main() -> None:
    client = OpenAIChatCompletionClient(model=script.MODEL, base_url=f"{script.URL}/v1", api_key=script.KEY)
    context = TokenLimitedChatCompletionContext(client, token_limit=script.LIMIT) if script.LIMITED else None
    agent = AssistantAgent(
        "helper",
        model_client=client,
        tools=[search],
        system_message=script.SYSTEM,
        model_context=context,
        max_tool_iterations=script.STEPS + 5,
    )
    await agent.run(task=script.TASK)
    script.finish()


asyncio.run(main())
