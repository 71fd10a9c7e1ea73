"""Blocks of code, what comes of them, and what an executor is; the module is named as programs import it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable  # Any: contents of messages

from pydantic import BaseModel


class CodeBlock(BaseModel):
    """Code, and its language."""

    code: str
    language: str


class CodeResult(BaseModel):
    """What came of code."""

    exit_code: int
    output: str


class CommandLineCodeResult(CodeResult):
    """The same, with the file that the first block with a name was saved to."""

    code_file: str | None = None


class CodeExtractor(Protocol):
    """Finds blocks of code in a message."""

    def extract_code_blocks(self, message: Any) -> list[CodeBlock]: ...


@runtime_checkable
class CodeExecutor(Protocol):
    """What an executor of a program's own has."""

    @property
    def code_extractor(self) -> CodeExtractor: ...

    def execute_code_blocks(self, code_blocks: list[CodeBlock]) -> CodeResult: ...

    def restart(self) -> None: ...
