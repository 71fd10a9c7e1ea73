"""Conversations of several agents: the group, people in it, who speaks when, and when it is over."""

from wherry.agents.group.chat import GroupChat
from wherry.agents.group.human import Human
from wherry.agents.group.state import Chat
from wherry.agents.group.stops import MaxCost, MaxRounds, MaxTokens, Mention, Said, Stop, Timeout
from wherry.agents.group.transitions import Forbidden

__all__ = [
    "Chat",
    "Forbidden",
    "GroupChat",
    "Human",
    "MaxCost",
    "MaxRounds",
    "MaxTokens",
    "Mention",
    "Said",
    "Stop",
    "Timeout",
]
