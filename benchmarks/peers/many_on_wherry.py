"""wherry, with its journal on disk."""

from __future__ import annotations

import asyncio
import tempfile

import many

from wherry import FunctionModel, ToolCallingAgent, open_store, tool
from wherry.agents import RunStatus
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest


@tool
async def search(query: str) -> str:
    """Searches the archive.

    Args:
        query: What to look for.
    """
    return many.RESULT


async def answer(request: ModelRequest) -> ModelReply | str:
    await many.thinking()
    made = sum(message.role == "assistant" for message in request.messages)
    if made == many.STEPS - 1:
        return "1,204"
    return ModelReply(tool_calls=[ToolCall(f"call_{made}", "search", {"query": f"ships {made}"})])


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/wherry.db")
        agent = ToolCallingAgent([search], FunctionModel(answer), instructions=many.SYSTEM, store=store)

        async def run(_: int) -> bool:
            result = await agent.arun(many.TASK)
            return result.status is RunStatus.COMPLETED and result.usage.requests == many.STEPS

        await many.measure(run)
        store.close()


asyncio.run(main())
