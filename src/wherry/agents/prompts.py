"""What agents are told. Short: a small local model reads 80 tokens a second, and every step pays for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wherry.messages import ToolSchema
from wherry.tools import signature

CODE = """\
You solve tasks by writing Python. Each reply is one short ```python block. It runs, and you see what it printed; \
variables stay. When you know the answer, call final_answer(value)."""

CODE_TOOLS = "These functions are already there; call them, never define or import them:"

TOOLS = """\
You solve tasks by calling tools. Call one or more tools, read the results, and go on until you know the answer; then \
call final_answer."""

LAST_WORD = "You have no steps left and no tools. Give your best final answer now, as plain text, from what you know."

ONE_STEP_LEFT = "One step is left. Call final_answer(value) with the best answer that you have."

SAME_AGAIN = "This is the same code as before. If you know the answer, call final_answer(value); else do something new."

NOTHING_PRINTED = "The code ran and printed nothing. print() what you need to see, or call final_answer(value)."


def code_system(
    schemas: Iterable[ToolSchema],
    *,
    examples: str = "",
    packages: Sequence[str] = (),
    instructions: str = "",
    answer: Mapping[str, Any] | None = None,
) -> str:
    """The system prompt of a code agent: the rules, the examples, then what changes from agent to agent.

    Args:
        schemas: of the tools.
        examples: what the model's profile has.
        packages: modules beyond the standard library that can be imported.
        instructions: the user's own.
        answer: the JSON schema of the final answer.
    """
    stubs = "\n".join(signature(schema) for schema in schemas)
    imports = f"Beside the standard library you can import {', '.join(packages)}." if packages else ""
    return _joined(CODE, examples, imports, stubs and f"{CODE_TOOLS}\n{stubs}", _answer_rule(answer), instructions)


def tools_system(*, examples: str = "", instructions: str = "") -> str:
    """The system prompt of a tool-calling agent; the tools themselves travel as schemas."""
    return _joined(TOOLS, examples, instructions)


def check_failed(problem: str) -> str:
    return f"That answer was not accepted: {problem}\nMend it and call final_answer again."


CARRY_OUT = "Now carry out this plan, one step at a time."


def plan(*, first: bool, left: int) -> str:
    """The request for a plan, with `left` steps to go."""
    if first:
        return (
            "Before you begin: write a short plan, in words. What is known, what has to be found out, and a numbered "
            f"list of the steps to take (you have {left}). Do not carry it out yet: no code, no tool calls."
        )
    return (
        "Stop for a moment and plan anew, in words: what is known by now, what went wrong, and a numbered list of what "
        f"is left to do ({left} steps remain). Do not carry it out yet: no code, no tool calls."
    )


def not_asked(problem: str) -> str:
    """After a request that a hook of the program refused."""
    return f"Your last step was refused: {problem}"


def rebuilt(snippets: int, missing: Sequence[int]) -> str:
    """After a snippet that ended the sandbox, when the ones before it were run again."""
    text = "The sandbox was ended and started anew. What this snippet did is gone"
    if snippets:
        text += "; the variables and files of the earlier ones are back"
    if missing:
        text += f", except what was left by number {', '.join(map(str, missing))}, which a limit stopped"
    return f"{text}."


def started_anew(reason: str) -> str:
    """After a snippet that ended the sandbox, when nothing could be brought back."""
    return f"The sandbox was ended and started anew: all variables and files are gone. ({reason})"


def attached(names: Mapping[str, str], files: Sequence[str]) -> str:
    """What a task's inputs and files look like to the model: names and previews, never the whole."""
    lines = [f"- {name}: {preview}" for name, preview in names.items()]
    lines += [f"- file {name!r} in the working folder" for name in files]
    return "\n\nGiven:\n" + "\n".join(lines) if lines else ""


def _answer_rule(answer: Mapping[str, Any] | None) -> str:
    return f"The final answer must fit this JSON schema: {json.dumps(answer)}" if answer else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
