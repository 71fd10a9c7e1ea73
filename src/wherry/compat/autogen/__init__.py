"""Programs written for classic AutoGen (0.2), run by wherry: change the import line, nothing else.

    from wherry.compat.autogen import AssistantAgent, UserProxyAgent

Names, arguments, shapes of messages, who replies when and when a chat ends are those of AutoGen 0.2 and of AG2's
classic agents. Below them are wherry's models, context bound, sandbox, limits and journal. What is different for it:

* Requests are bounded. A list of messages, a tool's result or a system prompt of any size is sent as what fits: large
  texts as previews, older turns as a summary, of a long system prompt what matters for the question. The lists of the
  program stay as they are.
* Models are asked again when that helps, by the kind of failure; `config_list` is a list of models behind one another.
* Code runs in wherry's sandbox, whatever `use_docker` or an executor says. There is no shell in it: blocks of shell may
  install packages (`pip install ...`) and run files of the work folder (`python made.py`), nothing else. Files of
  `work_dir` go in, and come out changed.
* A chat is a run in the store, each reply a run below it. `limits=Limits(...)` of the agent that begins a chat hold for
  all of it; `store`, `context` and `limits` are taken by every agent.
* `a_` functions run the same code as the others, in a thread; coroutines of the program run in its own event loop.
* Replies are sent once `receive` has returned, so that a chat of thousands of turns needs no deep stack.
* Answers are kept only where `cache_seed` or a `Cache` is given.
* A chat ends where a person would be asked and nobody is there (end of input).
* There are no contrib agents, no teachable or retrieving ones, no assistants of OpenAI's.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wherry.compat.autogen.cache import Cache
    from wherry.compat.autogen.chairing import GroupChatManager
    from wherry.compat.autogen.chats import ChatResult, a_initiate_chats, gather_usage_summary, initiate_chats
    from wherry.compat.autogen.client import OpenAIWrapper
    from wherry.compat.autogen.conversable import AssistantAgent, ConversableAgent, UserProxyAgent
    from wherry.compat.autogen.core import Core as Agent
    from wherry.compat.autogen.exception_utils import (
        AgentNameConflict,
        AgentNameConflictError,
        InvalidCarryOverType,
        InvalidCarryOverTypeError,
        NoEligibleSpeaker,
        NoEligibleSpeakerError,
        SenderRequired,
        SenderRequiredError,
        UndefinedNextAgent,
        UndefinedNextAgentError,
    )
    from wherry.compat.autogen.functions import register_function
    from wherry.compat.autogen.group_chat import GroupChat
    from wherry.compat.autogen.model_clients import ModelClient
    from wherry.compat.autogen.model_lists import (
        config_list_from_dotenv,
        config_list_from_json,
        config_list_from_models,
        config_list_gpt4_gpt35,
        config_list_openai_aoai,
        filter_config,
        get_config_list,
    )
    from wherry.compat.autogen.settings import LLMConfig
    from wherry.compat.autogen.state import UpdateSystemMessage

_NAMES = {
    "cache": "Cache",
    "chairing": "GroupChatManager",
    "chats": "ChatResult a_initiate_chats gather_usage_summary initiate_chats",
    "client": "OpenAIWrapper",
    "conversable": "AssistantAgent ConversableAgent UserProxyAgent",
    "exception_utils": (
        "AgentNameConflict AgentNameConflictError InvalidCarryOverType InvalidCarryOverTypeError NoEligibleSpeaker "
        "NoEligibleSpeakerError SenderRequired SenderRequiredError UndefinedNextAgent UndefinedNextAgentError"
    ),
    "functions": "register_function",
    "group_chat": "GroupChat",
    "model_clients": "ModelClient",
    "model_lists": (
        "config_list_from_dotenv config_list_from_json config_list_from_models config_list_gpt4_gpt35 "
        "config_list_openai_aoai filter_config get_config_list"
    ),
    "settings": "LLMConfig",
    "state": "UpdateSystemMessage",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

_MODULES = frozenset({
    "agentchat", "cache", "code_utils", "coding", "exception_utils", "formatting_utils", "function_utils",
    "graph_utils", "io", "oai", "runtime_logging", "token_count_utils", "types",
})  # fmt: skip
"""Modules that programs reach by `autogen.NAME` without importing them."""

__version__ = "0.2.35"
"""The version of AutoGen whose names these are: programs ask for it."""

DEFAULT_MODEL = "gpt-4"
FAST_MODEL = "gpt-3.5-turbo"

__all__ = [
    "DEFAULT_MODEL",
    "FAST_MODEL",
    "Agent",
    "AgentNameConflict",
    "AgentNameConflictError",
    "AssistantAgent",
    "Cache",
    "ChatResult",
    "ConversableAgent",
    "GroupChat",
    "GroupChatManager",
    "InvalidCarryOverType",
    "InvalidCarryOverTypeError",
    "LLMConfig",
    "ModelClient",
    "NoEligibleSpeaker",
    "NoEligibleSpeakerError",
    "OpenAIWrapper",
    "SenderRequired",
    "SenderRequiredError",
    "UndefinedNextAgent",
    "UndefinedNextAgentError",
    "UpdateSystemMessage",
    "UserProxyAgent",
    "a_initiate_chats",
    "config_list_from_dotenv",
    "config_list_from_json",
    "config_list_from_models",
    "config_list_gpt4_gpt35",
    "config_list_openai_aoai",
    "filter_config",
    "gather_usage_summary",
    "get_config_list",
    "initiate_chats",
    "register_function",
]


def __getattr__(name: str) -> Any:  # Any: whatever the name stands for
    if name in _MODULES:
        return import_module(f"wherry.compat.autogen.{name}")
    home = "core" if name == "Agent" else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'wherry.compat.autogen' has no attribute {name!r}")
    value = getattr(import_module(f"wherry.compat.autogen.{home}"), "Core" if name == "Agent" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES, "Agent"})
