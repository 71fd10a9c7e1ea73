"""The names that programs import from `autogen.coding`: code of models, run in wherry's sandbox."""

from __future__ import annotations

from wherry.compat.autogen.coding.base import CodeBlock, CodeExecutor, CodeExtractor, CodeResult, CommandLineCodeResult
from wherry.compat.autogen.coding.factory import CodeExecutorFactory
from wherry.compat.autogen.coding.markdown_code_extractor import MarkdownCodeExtractor
from wherry.compat.autogen.coding.sandbox_executor import (
    DockerCommandLineCodeExecutor,
    LocalCommandLineCodeExecutor,
    SandboxExecutor,
)

__all__ = [
    "CodeBlock",
    "CodeExecutor",
    "CodeExecutorFactory",
    "CodeExtractor",
    "CodeResult",
    "CommandLineCodeResult",
    "DockerCommandLineCodeExecutor",
    "LocalCommandLineCodeExecutor",
    "MarkdownCodeExtractor",
    "SandboxExecutor",
]
