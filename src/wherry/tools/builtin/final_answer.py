"""`final_answer`: how a tool-calling agent ends its run. Only a schema: the agent's loop handles the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any  # Any: JSON Schema

from wherry.messages import ToolSchema
from wherry.tools.compact import compact

NAME = "final_answer"
ARGUMENT = "answer"


def final_answer_schema(answer: Mapping[str, Any] | None = None) -> ToolSchema:
    """The schema of `final_answer(answer)`.

    Args:
        answer: JSON Schema of the answer's type; None: text, as a model writes it by itself.
    """
    body: dict[str, Any] = {"type": "string"} if answer is None else compact(answer)
    shared = body.pop("$defs", None)  # references start at the root of the parameters
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {ARGUMENT: body},
        "required": [ARGUMENT],
        "additionalProperties": False,
    }
    if shared:
        parameters["$defs"] = shared
    return ToolSchema(NAME, "Give the final answer to the task. This ends the work.", parameters)
