"""The names that programs import from `autogen.logger`: where runtime logging writes to."""

from __future__ import annotations

from wherry.compat.autogen.logger.file_logger import FileLogger
from wherry.compat.autogen.logger.logger_factory import LoggerFactory
from wherry.compat.autogen.logger.sqlite_logger import SqliteLogger

__all__ = ["FileLogger", "LoggerFactory", "SqliteLogger"]
