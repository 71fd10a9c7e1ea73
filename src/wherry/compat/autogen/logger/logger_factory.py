"""The logger that a name means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal  # Any: settings

from wherry.compat.autogen.logger.base_logger import BaseLogger
from wherry.compat.autogen.logger.file_logger import FileLogger
from wherry.compat.autogen.logger.sqlite_logger import SqliteLogger


class LoggerFactory:
    """Makes loggers."""

    @staticmethod
    def get_logger(
        logger_type: Literal["sqlite", "file"] = "sqlite", config: Mapping[str, Any] | None = None
    ) -> BaseLogger:
        """One that is not started.

        Raises:
            ValueError: there is no such type.
        """
        if logger_type == "sqlite":
            return SqliteLogger(config)
        if logger_type == "file":
            return FileLogger(config)
        raise ValueError(f"[logger_factory] Unknown logger type: {logger_type}")
