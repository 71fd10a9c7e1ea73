"""`TransformMessages`: functions over the messages before an agent replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: agents of programs' own classes

from wherry.compat.autogen.agentchat.contrib.capabilities.transforms import MessageTransform
from wherry.compat.autogen.console import say
from wherry.compat.autogen.messages import Dict


class TransformMessages:
    """Has messages transformed before an agent's reply is made; those of the program stay as they are.

    Args:
        transforms: What is done, in this order.
        verbose: Whether it is printed.
    """

    def __init__(self, *, transforms: Sequence[MessageTransform] = (), verbose: bool = True) -> None:
        self._transforms = transforms
        self._verbose = verbose

    def add_to_agent(self, agent: Any) -> None:
        """Do it for an agent from now on."""
        agent.register_hook("process_all_messages_before_reply", self._transform_messages)

    def _transform_messages(self, messages: list[Dict]) -> list[Dict]:
        first = messages[:1] if messages and messages[0].get("role") == "system" else []
        rest = [dict(message) for message in messages[len(first) :]]
        for transform in self._transforms:
            after = transform.apply_transform(rest)
            if self._verbose:
                said, changed = transform.get_logs(rest, after)
                if changed:
                    say(said)
            rest = after
        return [*first, *rest]
