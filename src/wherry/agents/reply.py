"""Reading Python out of a model's reply."""

from __future__ import annotations

import ast
import re

FENCE = re.compile(r"```[ \t]*(?:python3?|py|Python)?[ \t]*\r?\n(.*?)(?:\n[ \t]*```|```)", re.DOTALL)
OPEN_FENCE = re.compile(r"```[ \t]*(?:python3?|py|Python)?[ \t]*\r?\n(.*)\Z", re.DOTALL)


class UnreadableReplyError(Exception):
    """The reply holds nothing to run. The text says so to the model."""


def code_of(reply: str) -> str:
    """The Python code of a reply: its fenced blocks, one after the other, or the whole text if that is a program.

    Raises:
        UnreadableReplyError: there is none, or it is cut off.
    """
    if not reply.strip():
        raise UnreadableReplyError("Your reply was empty. Reply with one ```python block.")
    blocks = [block for block in FENCE.findall(reply) if block.strip()]
    if blocks:
        return "\n".join(blocks)
    unclosed = OPEN_FENCE.search(reply)
    if unclosed and unclosed.group(1).strip():
        # Many servers cut a reply at the closing fence (a stop sequence), and small models forget it.
        if _is_program(unclosed.group(1)):
            return unclosed.group(1)
        raise UnreadableReplyError("Your code was cut off before its end. Write a shorter ```python block.")
    if _is_program(reply):
        return reply
    raise UnreadableReplyError(
        "Your reply has no Python code. Reply with one ```python block; call final_answer(value) in it when you know "
        "the answer."
    )


def _is_program(text: str) -> bool:
    """Whether a text without fences is meant to run: it parses, and does something (a bare word parses too)."""
    try:
        tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Call | ast.Assign | ast.Import | ast.ImportFrom) for node in ast.walk(tree))
