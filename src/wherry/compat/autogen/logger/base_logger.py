"""What a logger of a program's own has; the module is named as programs import it."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any  # Any: what programs log


class BaseLogger(ABC):
    """Takes what is asked and answered, sent and called."""

    @abstractmethod
    def start(self) -> str:
        """Begin.

        Returns:
            The id of the session.
        """

    @abstractmethod
    def log_chat_completion(
        self, invocation_id: Any, client_id: int, wrapper_id: int, source: Any, request: Any, response: Any,
        is_cached: int, cost: float, start_time: str,
    ) -> None:  # fmt: skip
        """A question to a model, and its answer.

        Args:
            invocation_id: Of the question.
            client_id: Of the client that asked.
            wrapper_id: Of the wrapper around clients.
            source: The agent, or its name.
            request: `messages` and `model`.
            response: The answer as the openai package has it, as dicts; or a text.
            is_cached: 1 where the answer was kept from before.
            cost: US dollars.
            start_time: When it was asked.
        """

    @abstractmethod
    def log_new_agent(self, agent: Any, init_args: Mapping[str, Any]) -> None:
        """An agent that was made."""

    @abstractmethod
    def log_event(self, source: Any, name: str, **kwargs: Any) -> None:
        """A message that was received, a reply function that was asked, whatever a program wants to keep."""

    @abstractmethod
    def log_new_wrapper(self, wrapper: Any, init_args: Mapping[str, Any]) -> None:
        """A wrapper around models that was made."""

    @abstractmethod
    def log_new_client(self, client: Any, wrapper: Any, init_args: Mapping[str, Any]) -> None:
        """A client of a server that was made."""

    @abstractmethod
    def log_function_use(self, source: Any, function: Any, args: Any, returns: Any) -> None:
        """A function that was called, and what it gave."""

    @abstractmethod
    def stop(self) -> None:
        """End."""

    @abstractmethod
    def get_connection(self) -> sqlite3.Connection | None:
        """The database that is written to, if it is one."""
