"""The name that programs import from `autogen.coding.docker_commandline_code_executor`."""

from __future__ import annotations

from wherry.compat.autogen.coding.sandbox_executor import DockerCommandLineCodeExecutor

__all__ = ["DockerCommandLineCodeExecutor"]
