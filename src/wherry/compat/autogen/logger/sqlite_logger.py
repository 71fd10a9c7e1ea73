"""A database with the tables that programs read."""

from __future__ import annotations

import logging
import sqlite3
import threading
import uuid
from collections.abc import Mapping
from typing import Any  # Any: what programs log

from wherry.compat.autogen.logger.rows import Rows

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


class SqliteLogger(Rows):
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
        """It, while it is open."""
        return self.con

    def write(self, table: str, row: Mapping[str, Any]) -> None:
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
