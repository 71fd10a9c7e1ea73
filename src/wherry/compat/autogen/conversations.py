"""What an agent is called, and what it said with whom."""

from __future__ import annotations

from collections import defaultdict
from typing import Any  # Any: agents of programs' own classes

from wherry.compat.autogen.messages import Dict, as_kept


class Conversations:
    """An agent's name, its description, and its conversations."""

    _name: str
    _description: str
    _oai_messages: defaultdict[Any, list[Dict]]
    _oai_system_message: list[Dict]

    @property
    def name(self) -> str:
        """By which others know it."""
        return self._name

    @property
    def description(self) -> str:
        """What others are told of it."""
        return self._description

    @description.setter
    def description(self, description: str) -> None:
        self._description = description

    @property
    def system_message(self) -> str:
        """What its model is told first."""
        return self._oai_system_message[0]["content"]

    def update_system_message(self, system_message: str) -> None:
        """Tell its model something else first."""
        self._oai_system_message[0]["content"] = system_message

    @property
    def chat_messages(self) -> dict[Any, list[Dict]]:
        """Its conversations, by whom they are with."""
        return self._oai_messages

    def chat_messages_for_summary(self, agent: Any) -> list[Dict]:
        """The messages that a summary of the chat with `agent` is made of."""
        return self._oai_messages[agent]

    def last_message(self, agent: Any = None) -> Dict | None:
        """The newest message of a conversation; of the only one, if `agent` is not given.

        Raises:
            KeyError: there is none with that agent.
            ValueError: there are several, and it is not said which.
        """
        if agent is None:
            if len(self._oai_messages) > 1:
                raise ValueError(
                    "More than one conversation is found. Please specify the sender to get the last message."
                )
            return next((said[-1] for said in self._oai_messages.values() if said), None)
        if agent not in self._oai_messages:
            raise KeyError(f"The agent '{agent.name}' is not present in any conversation. No history available.")
        said = self._oai_messages[agent]
        return said[-1] if said else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def _append_oai_message(self, message: Any, role: str, conversation_id: Any, is_sending: bool) -> bool:
        """Keep a message that was sent or received; False where it says nothing and calls nothing."""
        kept = as_kept(message, role, self._name if is_sending else conversation_id.name)
        if kept is None:
            return False
        self._oai_messages[conversation_id].append(kept)
        return True

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # a copy of what refers to an agent refers to the same one
