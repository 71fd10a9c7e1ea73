"""A file with the fields that programs read."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # Any: what programs log

from wherry.compat.autogen.logger.rows import Rows

logger = logging.getLogger(__name__)

_FOLDER = "autogen_logs"
_CALLED = {
    "agents": {
        "agent_id": "id",
        "name": "agent_name",
        "class": "agent_type",
        "init_args": "args",
        "timestamp": "current_time",
    },
    "events": {"agent_class_name": "agent_class"},
    "oai_wrappers": {"init_args": "json_state"},
    "oai_clients": {"init_args": "json_state"},
    "function_calls": {"args": "input_args"},
}
"""What the columns of tables are called in the file."""


class FileLogger(Rows):
    """A file: a line that says the session, then one of JSON for each thing that happened, with its `table`.

    Args:
        config: `filename`, in the folder `autogen_logs`, unless it is an absolute path; `runtime.log` by default.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.log_file = Path.cwd() / _FOLDER / (config or {}).get("filename", "runtime.log")
        self._lock = threading.Lock()
        self.session_id = str(uuid.uuid4())

    def start(self) -> str:
        """Write which session begins."""
        self._append(f"Started new session with Session ID: {self.session_id}")
        return self.session_id

    def stop(self) -> None:
        """Nothing is open."""

    def get_connection(self) -> None:
        """There is none."""

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        names = _CALLED.get(table, {})
        line: dict[str, Any] = {names.get(key, key): value for key, value in row.items()}
        if table == "chat_completions":
            line["request"] = json.loads(line["request"])
        line |= {"table": table, "session_id": self.session_id, "thread_id": threading.get_ident()}
        self._append(json.dumps(line, default=str, ensure_ascii=False))

    def _append(self, line: str) -> None:
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, self.log_file.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            logger.error("[file_logger] Failed to write to %s: %s", self.log_file, error)  # noqa: TRY400 - no traceback
