"""agno over its OpenAI-like client, nothing sent home; limited: by its compaction."""

from __future__ import annotations

import logging

import script
from agno.agent import Agent
from agno.compaction import Compaction
from agno.models.openai.like import OpenAILike

logging.disable(logging.CRITICAL)


def search(query: str) -> str:
    """Searches the archive.

    Args:
        query: What to look for.
    """
    return script.result(query)


agent = Agent(
    model=OpenAILike(id=script.MODEL, base_url=f"{script.URL}/v1", api_key=script.KEY),
    tools=[search],
    instructions=script.SYSTEM,
    telemetry=False,
    compaction=Compaction(compact_at_tokens=script.LIMIT) if script.LIMITED else None,
)
agent.run(script.TASK)
script.finish()
