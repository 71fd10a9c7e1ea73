"""agno with a model of its own kind that answers in this process; nothing is stored, nothing sent home."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import many
from agno.agent import Agent
from agno.models.base import Model
from agno.models.response import ModelResponse

logging.disable(logging.CRITICAL)


def search(query: str) -> str:
    """Searches the archive.

    Args:
        query: What to look for.
    """
    return many.RESULT


@dataclass
class Scripted(Model):
    id: str = "scripted"

    async def ainvoke(self, messages: list[Any], *args: Any, **kwargs: Any) -> ModelResponse:
        await many.thinking()
        made = sum(message.role == "assistant" for message in messages)
        if made == many.STEPS - 1:
            return ModelResponse(role="assistant", content="1,204")
        function = {"name": "search", "arguments": json.dumps({"query": f"ships {made}"})}
        return ModelResponse(
            role="assistant", tool_calls=[{"id": f"call_{made}", "type": "function", "function": function}]
        )

    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise RuntimeError("asked synchronously")

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
        raise RuntimeError("asked to stream")

    def ainvoke_stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ModelResponse]:
        raise RuntimeError("asked to stream")

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        return response


agent = Agent(model=Scripted(), tools=[search], instructions=many.SYSTEM, telemetry=False)


async def run(_: int) -> bool:
    result = await agent.arun(many.TASK)
    return result.content == "1,204"


asyncio.run(many.measure(run))
