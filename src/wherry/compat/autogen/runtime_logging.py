"""Runtime logging as classic programs have it: what was asked and answered, sent and called, in a database or a file.

The tables and fields are those that programs read. wherry's own journal has the same, and is always on. A request is
written as the program has it, with all of its messages: the log of a long conversation grows with its square.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, cast  # Any: what programs log

logger = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS chat_completions (id INTEGER PRIMARY KEY, invocation_id TEXT, client_id INTEGER,
    wrapper_id INTEGER, session_id TEXT, source_name TEXT, request TEXT, response TEXT, is_cached INTEGER, cost REAL,
    start_time DATETIME DEFAULT CURRENT_TIMESTAMP, end_time DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS agents (id INTEGER PRIMARY KEY, agent_id INTEGER, wrapper_id INTEGER, session_id TEXT,
    name TEXT, class TEXT, init_args TEXT, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, UNIQUE(agent_id, session_id));
CREATE TABLE IF NOT EXISTS oai_wrappers (id INTEGER PRIMARY KEY, wrapper_id INTEGER, session_id TEXT, init_args TEXT,
    timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, UNIQUE(wrapper_id, session_id));
CREATE TABLE IF NOT EXISTS oai_clients (id INTEGER PRIMARY KEY, client_id INTEGER, wrapper_id INTEGER, session_id TEXT,
    class TEXT, init_args TEXT, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, UNIQUE(client_id, session_id));
CREATE TABLE IF NOT EXISTS version (id INTEGER PRIMARY KEY CHECK (id = 1), version_number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events (event_name TEXT, source_id INTEGER, source_name TEXT, agent_module TEXT DEFAULT NULL,
    agent_class_name TEXT DEFAULT NULL, id INTEGER PRIMARY KEY, json_state TEXT,
    timestamp DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS function_calls (source_id INTEGER, source_name TEXT, function_name TEXT,
    args TEXT DEFAULT NULL, returns TEXT DEFAULT NULL, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP);
INSERT OR IGNORE INTO version VALUES (1, 1);
"""
_SECRETS = frozenset({"api_key", "organization", "base_url", "azure_endpoint", "azure_ad_token", "self", "__class__"})


class Log(Protocol):
    """Takes what is logged: a row of a table."""

    def start(self) -> str: ...

    def stop(self) -> None: ...

    def write(self, table: str, row: Mapping[str, Any]) -> None: ...


class SqliteLogger:
    """A database.

    Args:
        config: `dbname`, a file; `logs.db` by default.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._path = str((config or {}).get("dbname", "logs.db"))
        self._lock = threading.Lock()
        self.session_id = str(uuid.uuid4())
        self.con: sqlite3.Connection | None = None

    def start(self) -> str:
        """Open it, with its tables."""
        self.con = sqlite3.connect(self._path, check_same_thread=False)
        self.con.executescript(_TABLES)
        return self.session_id

    def stop(self) -> None:
        """Close it."""
        if self.con is not None:
            self.con.close()
            self.con = None

    def get_connection(self) -> sqlite3.Connection | None:
        return self.con

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row. A log that cannot be written stops no chat."""
        row = {**row, "session_id": self.session_id} if table not in ("events", "function_calls") else row
        again = "IGNORE" if table.startswith("oai_") else "REPLACE"  # agents are logged by each class that makes them
        query = f"INSERT OR {again} INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - names of our own
        try:
            with self._lock:
                if self.con is not None:
                    self.con.execute(query, tuple(row.values()))
                    self.con.commit()
        except sqlite3.Error as error:
            logger.error("[sqlite logger]Error running query with query %s and args %s: %s", query, row, error)  # noqa: TRY400 - no traceback


class FileLogger:
    """A file, each line JSON.

    Args:
        config: `filename`; `runtime.log` by default.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._path = Path((config or {}).get("filename", "runtime.log"))
        self._lock = threading.Lock()
        self.session_id = str(uuid.uuid4())

    def start(self) -> str:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self.session_id

    def stop(self) -> None:
        """Nothing is open."""

    def get_connection(self) -> None:
        """There is none."""

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        line = json.dumps({"table": table, "session_id": self.session_id, **row}, default=str, ensure_ascii=False)
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            logger.error("[file logger] Failed to write to %s: %s", self._path, error)  # noqa: TRY400 - no traceback


_log: list[Log] = []
"""The one that is on, if one is."""


def start(
    logger: Log | None = None,
    logger_type: Literal["sqlite", "file"] = "sqlite",
    config: Mapping[str, Any] | None = None,
) -> str:
    """Begin to log.

    Args:
        logger: Where to; any object with `start`, `stop` and `write`.
        logger_type: `"sqlite"` or `"file"`, without one.
        config: `dbname` or `filename`.

    Returns:
        The id of the session, by which its rows are found.

    Raises:
        ValueError: there is no such type.
    """
    kinds: dict[str, type[Any]] = {"sqlite": SqliteLogger, "file": FileLogger}
    if logger is None and logger_type not in kinds:
        raise ValueError(f"[logger_factory] Unknown logger type: {logger_type}")
    stop()
    made: Log = kinds[logger_type](config) if logger is None else logger
    session = made.start()
    _log.append(made)
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
    return getattr(_log[-1], "con", None) if _log else None


def get_current_ts() -> str:
    """Now, in UTC, as rows have it."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"


def log_chat_completion(
    invocation_id: Any, client_id: int, wrapper_id: int, agent: Any, request: Any, response: Any, is_cached: int,
    cost: float, start_time: str,
) -> None:  # fmt: skip
    """A question to a model, and its answer."""
    said = {"response": response} if response is None or isinstance(response, str) else response
    row = {"invocation_id": str(invocation_id), "client_id": client_id, "wrapper_id": wrapper_id}
    row |= {"source_name": _name(agent), "request": _text(request), "response": _text(said), "is_cached": is_cached}
    _write("chat_completions", {**row, "cost": cost, "start_time": start_time, "end_time": get_current_ts()})


def log_new_agent(agent: Any, init_args: Mapping[str, Any]) -> None:
    """An agent that was made."""
    client: object = getattr(agent, "client", None)
    row = {"agent_id": id(agent), "wrapper_id": "" if client is None else id(client), "name": _name(agent)}
    args = _text(_without_secrets(init_args))
    _write("agents", {**row, "class": type(agent).__name__, "init_args": args, "timestamp": get_current_ts()})


def log_new_wrapper(wrapper: Any, init_args: Mapping[str, Any]) -> None:
    """A wrapper around models that was made."""
    args = _text(_without_secrets(init_args))
    _write("oai_wrappers", {"wrapper_id": id(wrapper), "init_args": args, "timestamp": get_current_ts()})


def log_new_client(client: Any, wrapper: Any, init_args: Mapping[str, Any]) -> None:
    """A client of a server that was made."""
    row = {"client_id": id(client), "wrapper_id": id(wrapper), "class": type(client).__name__}
    args = _text(_without_secrets(init_args))
    _write("oai_clients", {**row, "init_args": args, "timestamp": get_current_ts()})


def log_event(source: Any, name: str, **kwargs: Any) -> None:
    """Whatever a program wants to keep."""
    row = {"event_name": name, "source_id": id(source), "source_name": _name(source), "json_state": _text(kwargs)}
    if not isinstance(source, str):
        row |= {"agent_module": type(source).__module__, "agent_class_name": type(source).__name__}
    _write("events", {**row, "timestamp": get_current_ts()})


def log_function_use(agent: Any, function: Any, args: Any, returns: Any) -> None:
    """A function that was called, and what it gave."""
    name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    row = {"source_id": id(agent), "source_name": _name(agent), "function_name": name}
    _write("function_calls", {**row, "args": _text(args), "returns": _text(returns), "timestamp": get_current_ts()})


def _write(table: str, row: Mapping[str, Any]) -> None:
    if not _log:
        logger.error("[runtime logging] %s: no logger is started", table)
        return
    _log[-1].write(table, row)


def _name(source: Any) -> str:
    return source if isinstance(source, str) else str(getattr(source, "name", ""))


def _text(value: Any) -> str:
    return json.dumps(value, default=lambda one: f"<<non-serializable: {type(one).__qualname__}>>")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = cast("Mapping[Any, Any]", value)
        return {key: _without_secrets(one) for key, one in found.items() if key not in _SECRETS}
    if isinstance(value, list | tuple):
        several: list[Any] = [*value]
        return [_without_secrets(one) for one in several]
    return value
