"""AG2's classic group chat, whose members keep all that was said, each for itself."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from types import SimpleNamespace

import chat
from autogen import AssistantAgent, GroupChat, GroupChatManager

logging.disable(logging.CRITICAL)


class Words:
    """A model that answers at once."""

    def __init__(self, config, **_) -> None:
        self.answer = chat.chooses if config["model"] == "chooses" else chat.says

    def create(self, params):
        text = self.answer(sum(len(message.get("content") or "") for message in params["messages"]))
        message = SimpleNamespace(content=text, function_call=None, tool_calls=None)
        return SimpleNamespace(choices=[SimpleNamespace(message=message)], model=params["model"])

    def message_retrieval(self, response):
        return [choice.message.content for choice in response.choices]

    def cost(self, response) -> float:
        return 0.0

    @staticmethod
    def get_usage(response):
        return {}


def config(model: str):
    return {"config_list": [{"model": model, "model_client_cls": "Words"}], "cache_seed": None}


agents = [
    AssistantAgent(name, system_message="Talks.", description="Talks.", llm_config=config("says"))
    for name in chat.NAMES
]
for agent in agents:
    agent.register_model_client(model_client_cls=Words)
group = GroupChat(
    agents,
    max_round=chat.ROUNDS + 1,
    speaker_selection_method="auto" if chat.CHOOSES else "round_robin",
    select_speaker_auto_llm_config=config("chooses"),
    select_speaker_auto_model_client_cls=Words,
)
manager = GroupChatManager(group, llm_config=False)
with contextlib.redirect_stdout(io.StringIO()) as sink:
    sink.write = len  # its console output grows with the run
    agents[-1].initiate_chat(manager, message=chat.TASK, summary_method=None)
members = [*agents, manager]
kept = [group.messages, *(list(member.chat_messages.values()) for member in members)]
chat.tell(len(json.dumps(kept, ensure_ascii=False)))
