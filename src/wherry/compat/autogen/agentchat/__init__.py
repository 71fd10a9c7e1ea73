"""The names that programs import from `autogen.agentchat`."""

from __future__ import annotations

from wherry.compat.autogen.chairing import GroupChatManager
from wherry.compat.autogen.chats import ChatResult, a_initiate_chats, gather_usage_summary, initiate_chats
from wherry.compat.autogen.conversable import AssistantAgent, ConversableAgent, UserProxyAgent
from wherry.compat.autogen.core import Core as Agent
from wherry.compat.autogen.functions import register_function
from wherry.compat.autogen.group_chat import GroupChat

__all__ = [
    "Agent",
    "AssistantAgent",
    "ChatResult",
    "ConversableAgent",
    "GroupChat",
    "GroupChatManager",
    "UserProxyAgent",
    "a_initiate_chats",
    "gather_usage_summary",
    "initiate_chats",
    "register_function",
]
