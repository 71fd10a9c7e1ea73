"""The names that programs import from `autogen.agentchat.groupchat`."""

from __future__ import annotations

from wherry.compat.autogen.chairing import GroupChatManager
from wherry.compat.autogen.exception_utils import (
    AgentNameConflict,
    AgentNameConflictError,
    NoEligibleSpeaker,
    NoEligibleSpeakerError,
    UndefinedNextAgent,
    UndefinedNextAgentError,
)
from wherry.compat.autogen.group_chat import GroupChat

__all__ = [
    "AgentNameConflict",
    "AgentNameConflictError",
    "GroupChat",
    "GroupChatManager",
    "NoEligibleSpeaker",
    "NoEligibleSpeakerError",
    "UndefinedNextAgent",
    "UndefinedNextAgentError",
]
