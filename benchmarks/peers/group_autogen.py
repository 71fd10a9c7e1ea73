"""AutoGen 0.7's teams, whose agents keep all that was said."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence

import chat
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage

logging.disable(logging.CRITICAL)
NOTHING = RequestUsage(prompt_tokens=0, completion_tokens=0)


class Words(ChatCompletionClient):
    """A model that answers at once."""

    def __init__(self, answer) -> None:
        self.answer = answer

    async def create(self, messages: Sequence, **_) -> CreateResult:
        text = self.answer(sum(len(message.content) for message in messages))
        return CreateResult(finish_reason="stop", content=text, usage=NOTHING, cached=False)

    def create_stream(self, messages: Sequence, **_):
        raise RuntimeError("nobody streams here")

    async def close(self) -> None: ...

    def actual_usage(self) -> RequestUsage:
        return NOTHING

    def total_usage(self) -> RequestUsage:
        return NOTHING

    def count_tokens(self, messages: Sequence, **_) -> int:
        return sum(len(message.content) for message in messages) // 4

    def remaining_tokens(self, messages: Sequence, **_) -> int:
        return 10**9

    @property
    def capabilities(self):
        return self.model_info

    @property
    def model_info(self):
        return {
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "family": "unknown",
            "structured_output": False,
        }


async def main() -> None:
    agents = [AssistantAgent(name, model_client=Words(chat.says), description="Talks.") for name in chat.NAMES]
    if chat.CHOOSES:
        team = SelectorGroupChat(agents, model_client=Words(chat.chooses), max_turns=chat.ROUNDS)
    else:
        team = RoundRobinGroupChat(agents, max_turns=chat.ROUNDS)
    await team.run(task=chat.TASK)
    chat.tell(len(json.dumps(await team.save_state(), ensure_ascii=False)))


asyncio.run(main())
