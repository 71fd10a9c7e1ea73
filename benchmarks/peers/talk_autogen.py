"""AutoGen 0.7's AssistantAgent, whose context is unbounded."""

from __future__ import annotations

import asyncio
import logging

import talk
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient

logging.disable(logging.CRITICAL)
info = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "family": "unknown",
    "structured_output": False,
}
client = OpenAIChatCompletionClient(
    model=talk.MODEL, base_url=talk.URL, api_key=talk.KEY, model_info=info, max_tokens=talk.OUTPUT, max_retries=0
)
agent = AssistantAgent("helper", model_client=client, system_message=talk.SYSTEM)
loop = asyncio.new_event_loop()
talk.talk(lambda _, words: loop.run_until_complete(agent.run(task=words)))
