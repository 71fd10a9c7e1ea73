"""What an agent is set to before each reply: `update_agent_state_before_reply`."""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any  # Any: agents of programs' own classes

from wherry.compat.autogen.messages import Dict


@dataclass
class UpdateSystemMessage:
    """Sets the system message before each reply.

    Args:
        content_updater: A template whose `{names}` are those of the agent's context variables, or a function of
            (agent, messages) that gives the message.

    Raises:
        ValueError: it is neither, or the function takes something else.
    """

    content_updater: Callable[..., str] | str

    def __post_init__(self) -> None:
        given: object = self.content_updater
        if isinstance(given, str):
            if not [name for _, name, _, _ in string.Formatter().parse(given) if name]:
                raise ValueError("Update function string must contain at least one variable. This is the template.")
        elif not callable(given):
            raise ValueError("The update function must be either a string or a callable")  # noqa: TRY004 - programs catch it
        elif len(inspect.signature(given).parameters) != 2:
            raise ValueError("The update function must accept two parameters: the agent and the messages")

    def __call__(self, agent: Any, messages: list[Dict]) -> None:
        """Set it."""
        update = self.content_updater
        text = update(agent, messages) if callable(update) else string.Formatter().vformat(update, (), _known(agent))
        agent.update_system_message(text)


def _known(agent: Any) -> Any:
    variables: Any = agent.context_variables
    return variables.to_dict() if hasattr(variables, "to_dict") else variables
