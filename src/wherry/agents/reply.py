"""Reading Python out of a model's reply."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

OPENING = re.compile(r"[ \t]*```+[ \t]*([A-Za-z0-9_+-]*)[^`]*$")
CLOSING = re.compile(r"[ \t]*```+[ \t]*$")
PYTHON = frozenset({"python", "python3", "py", "py3", "ipython"})


class UnreadableReplyError(Exception):
    """The reply holds nothing to run. The text says so to the model."""


@dataclass(frozen=True, slots=True)
class _Block:
    language: str
    code: str
    closed: bool


def code_of(reply: str) -> str:
    """The Python code of a reply.

    Blocks that are marked as Python are taken, one after the other; if there are none, blocks without a mark; if there
    are no blocks, the whole text, if that is a program. Blocks of other languages are passed over.

    Raises:
        UnreadableReplyError: there is none, or it is cut off.
    """
    if not reply.strip():
        raise UnreadableReplyError("Your reply was empty. Reply with one ```python block.")
    found = [block for block in _blocks(reply) if block.code.strip()]
    blocks = [block for block in found if block.language in PYTHON] or [b for b in found if not b.language]
    if blocks:
        # A last block that is not closed: many servers cut a reply at the closing fence (a stop sequence), and small
        # models forget it. If what is there is whole, it is run.
        if not blocks[-1].closed and not _is_program(blocks[-1].code):
            raise UnreadableReplyError("Your code was cut off before its end. Write a shorter ```python block.")
        return "\n".join(block.code for block in blocks)
    if not found and _is_program(reply):
        return reply
    raise UnreadableReplyError(
        "Your reply has no Python code. Reply with one ```python block; call final_answer(value) in it when you know "
        "the answer."
    )


def _blocks(reply: str) -> list[_Block]:
    """The fenced blocks. A fence stands at the start of its line: backticks inside of code are code."""
    blocks: list[_Block] = []
    language: str | None = None
    lines: list[str] = []
    for line in reply.splitlines():
        if language is None:
            if opening := OPENING.match(line):
                language, lines = opening.group(1).lower(), []
        elif CLOSING.match(line):
            blocks.append(_Block(language, "\n".join(lines), closed=True))
            language = None
        else:
            lines.append(line)
    if language is not None:
        # Some models close the block on the last line of code.
        text = "\n".join(lines)
        ended = text.rstrip().endswith("```")
        blocks.append(_Block(language, text.rstrip().removesuffix("```") if ended else text, closed=ended))
    return blocks


def _is_program(text: str) -> bool:
    """Whether a text without fences is meant to run: it parses, and does something (a bare word parses too)."""
    try:
        tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Call | ast.Assign | ast.Import | ast.ImportFrom) for node in ast.walk(tree))
