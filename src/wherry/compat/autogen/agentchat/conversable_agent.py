"""The names that programs import from `autogen.agentchat.conversable_agent`."""

from __future__ import annotations

from wherry.compat.autogen.conversable import ConversableAgent
from wherry.compat.autogen.core import Core as Agent
from wherry.compat.autogen.functions import register_function
from wherry.compat.autogen.people import HumanInputMode
from wherry.compat.autogen.state import UpdateSystemMessage

__all__ = ["Agent", "ConversableAgent", "HumanInputMode", "UpdateSystemMessage", "register_function"]
