"""AG2 classic: an assistant and a user proxy that runs the tool; limited: by its MessageTokenLimiter."""

from __future__ import annotations

import contextlib
import io
import logging

import script
from autogen import AssistantAgent, UserProxyAgent, register_function
from autogen.agentchat.contrib.capabilities.transform_messages import TransformMessages
from autogen.agentchat.contrib.capabilities.transforms import MessageTokenLimiter

logging.disable(logging.CRITICAL)


def search(query: str) -> str:
    """Searches the archive."""
    with contextlib.redirect_stdout(REAL):
        return script.result(query)


config = {
    "config_list": [
        {"model": script.MODEL, "base_url": f"{script.URL}/v1", "api_key": script.KEY, "price": [0.0, 0.0]}
    ],
    "cache_seed": None,
}
assistant = AssistantAgent("helper", system_message=script.SYSTEM, llm_config=config, max_consecutive_auto_reply=10**6)
user = UserProxyAgent(
    "user",
    human_input_mode="NEVER",
    code_execution_config=False,
    max_consecutive_auto_reply=10**6,
    is_termination_msg=lambda message: "TERMINATE" in str(message.get("content")),
)
register_function(search, caller=assistant, executor=user, name="search", description="Searches the archive.")
if script.LIMITED:
    limiter = MessageTokenLimiter(max_tokens=script.LIMIT, model=script.MODEL)
    TransformMessages(transforms=[limiter], verbose=False).add_to_agent(assistant)

with contextlib.redirect_stdout(io.StringIO()) as sink:
    import sys

    REAL = sys.__stdout__
    sink.write = lambda text: len(text)  # its console output grows with the run
    user.initiate_chat(assistant, message=script.TASK, summary_method=None)
with contextlib.redirect_stdout(REAL):
    script.finish()
