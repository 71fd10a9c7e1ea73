"""Runtime logging as classic programs have it: what was asked and answered, sent and called, in a database or a file.

The tables and fields are those that programs read. wherry's own journal has the same, and is always on. A request is
written as the program has it, with all of its messages: the log of a long conversation grows with its square.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal  # Any: what programs log

if TYPE_CHECKING:
    from wherry.compat.autogen.logger.base_logger import BaseLogger

logger = logging.getLogger(__name__)

_log: list[BaseLogger] = []
"""The one that is on, if one is."""


def start(
    logger: BaseLogger | None = None,
    logger_type: Literal["sqlite", "file"] = "sqlite",
    config: Mapping[str, Any] | None = None,
) -> str:
    """Begin to log.

    Args:
        logger: Where to: a `BaseLogger` of the program's own, or any object with its methods.
        logger_type: `"sqlite"` or `"file"`, without one.
        config: `dbname` or `filename`.

    Returns:
        The id of the session, by which its rows are found.

    Raises:
        ValueError: there is no such type.
    """
    if logger is None:
        from wherry.compat.autogen.logger.logger_factory import LoggerFactory

        logger = LoggerFactory.get_logger(logger_type, config)
    stop()
    session = logger.start()
    _log.append(logger)
    return session


def stop() -> None:
    """Log no more."""
    while _log:
        _log.pop().stop()


def logging_enabled() -> bool:
    """Whether something is logged."""
    return bool(_log)


def get_connection() -> sqlite3.Connection | None:
    """The database that is written to, if it is one."""
    return _log[-1].get_connection() if _log else None


def log_chat_completion(
    invocation_id: Any, client_id: int, wrapper_id: int, agent: Any, request: Any, response: Any, is_cached: int,
    cost: float, start_time: str,
) -> None:  # fmt: skip
    """A question to a model, and its answer."""
    if (log := _on("log_chat_completion")) is not None:
        log.log_chat_completion(
            invocation_id, client_id, wrapper_id, agent, request, response, is_cached, cost, start_time
        )


def log_new_agent(agent: Any, init_args: Mapping[str, Any]) -> None:
    """An agent that was made."""
    if (log := _on("log_new_agent")) is not None:
        log.log_new_agent(agent, init_args)


def log_new_wrapper(wrapper: Any, init_args: Mapping[str, Any]) -> None:
    """A wrapper around models that was made."""
    if (log := _on("log_new_wrapper")) is not None:
        log.log_new_wrapper(wrapper, init_args)


def log_new_client(client: Any, wrapper: Any, init_args: Mapping[str, Any]) -> None:
    """A client of a server that was made."""
    if (log := _on("log_new_client")) is not None:
        log.log_new_client(client, wrapper, init_args)


def log_event(source: Any, name: str, **kwargs: Any) -> None:
    """Whatever a program wants to keep."""
    if (log := _on("log_event")) is not None:
        log.log_event(source, name, **kwargs)


def log_function_use(agent: Any, function: Any, args: Any, returns: Any) -> None:
    """A function that was called, and what it gave."""
    if (log := _on("log_function_use")) is not None:
        log.log_function_use(agent, function, args, returns)


def _on(what: str) -> BaseLogger | None:
    if not _log:
        logger.error("[runtime logging] %s: no logger is started", what)
        return None
    return _log[-1]
