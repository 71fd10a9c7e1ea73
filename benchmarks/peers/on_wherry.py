"""wherry: `OpenAIModel`, a store on disk, everything else as it comes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import script

from wherry import ContextBudget, ToolCallingAgent, open_store, tool
from wherry.models import OpenAIModel


@tool
async def search(query: str) -> str:
    """Searches the archive.

    Args:
        query: What to look for.
    """
    return script.result(query)


with tempfile.TemporaryDirectory() as folder:
    model = OpenAIModel(script.MODEL, base_url=f"{script.URL}/v1", api_key=script.KEY, window=8_192)
    agent = ToolCallingAgent(
        [search],
        model,
        instructions=script.SYSTEM,
        max_steps=script.STEPS + 5,
        context=ContextBudget(reserve_output=1_024),
        store=open_store(f"sqlite:///{Path(folder) / 'bench.db'}"),
    )
    agent.run(script.TASK)
    script.finish()
