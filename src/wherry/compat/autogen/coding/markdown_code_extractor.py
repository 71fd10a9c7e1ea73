"""Blocks of code in what a model said."""

from __future__ import annotations

import re
from typing import Any  # Any: contents of messages

from wherry.compat.autogen.coding.base import CodeBlock
from wherry.compat.autogen.messages import content_str

_BLOCK = re.compile(r"```[ \t]*([\w+#-]*)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```", re.DOTALL)
_SHELL = re.compile(r"\s*(?:[!$]\s*)?(?:python3?\s+\S|pip3?\s+install\s)")


def extract_code(text: Any, *, guess: bool = True) -> list[tuple[str, str]]:
    """The blocks of code in a message, as (language, code); `[("unknown", text)]` where there is none.

    Of a block that names no language it is guessed, or else left empty.
    """
    found = [
        ((language or "").lower() or (_guessed(code) if guess else ""), code)
        for language, code in _BLOCK.findall(content_str(text))
    ]
    return found or [("unknown", content_str(text))]


def _guessed(code: str) -> str:
    return "sh" if _SHELL.match(code) else "python"


class MarkdownCodeExtractor:
    """Finds blocks of code."""

    def extract_code_blocks(self, message: Any) -> list[CodeBlock]:
        """The blocks; none where the message has none."""
        if not message:
            return []
        found = [(language, code) for language, code in extract_code(message) if language != "unknown"]
        return [CodeBlock(code=code, language=language) for language, code in found]
