"""The executor that a `code_execution_config` means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: settings, and executors of programs' own classes

from wherry.compat.autogen.coding.sandbox_executor import SECONDS, LocalCommandLineCodeExecutor, SandboxExecutor


class CodeExecutorFactory:
    """Makes the executor that a `code_execution_config` means."""

    @staticmethod
    def create(code_execution_config: Mapping[str, Any]) -> Any:
        """See `executor_of`."""
        return executor_of(code_execution_config)


def executor_of(config: Mapping[str, Any]) -> Any:
    """The executor that a `code_execution_config` means.

    Raises:
        ValueError: settings that exclude one another.
    """
    given = config.get("executor")
    if given is None:
        timeout, folder = config.get("timeout") or SECONDS, config.get("work_dir")
        return SandboxExecutor(timeout, folder, packages=config.get("packages", ()))
    for key in ("use_docker", "work_dir", "timeout"):
        if key in config:
            raise ValueError(
                f"'{key}' in code_execution_config is not valid when 'executor' is set. Use the appropriate arg in "
                "the chosen executor instead."
            )
    if isinstance(given, str):
        return LocalCommandLineCodeExecutor(**dict(config.get(given) or {}))
    return given
