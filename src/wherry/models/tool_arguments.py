"""The arguments of a tool call, as models write them: a text that should be a JSON object and at times is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from wherry.messages import ToolCall

RAW = "__raw__"
"""The argument that holds a text which is no JSON object, as the model wrote it."""
PARSE_ERROR = "__error__"
"""The argument that says, beside `RAW`, what is wrong with the text."""


def parse_arguments(raw: object) -> dict[str, Any]:  # Any: JSON, checked by the tool's own schema
    """The arguments that a model wrote, never an error.

    Nothing, `null` and blanks are no arguments. An object that was encoded twice is decoded twice, and line breaks
    inside strings are let through, since models do both. Anything else comes back as `{RAW: text, PARSE_ERROR: why}`,
    so that the call can be stored, sent back as valid JSON, and answered with the parser's own words.
    """
    if isinstance(raw, Mapping):
        return {str(key): value for key, value in cast("Mapping[Any, Any]", raw).items()}
    if raw is None:
        return {}
    text = raw if isinstance(raw, str) else str(raw)
    if not text.strip():
        return {}
    try:
        value = _loads(text)
        if isinstance(value, str):
            value = _loads(value)
    except (ValueError, RecursionError) as error:
        return {RAW: text, PARSE_ERROR: _explain(error)}
    if value is None:
        return {}
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    return {RAW: text, PARSE_ERROR: f"expected a JSON object of arguments, got {type(value).__name__}"}


def argument_error(call: ToolCall) -> str | None:
    """Why the call's arguments could not be parsed; None when they could."""
    if RAW in call.arguments and PARSE_ERROR in call.arguments:
        return str(call.arguments[PARSE_ERROR])
    return None


def _loads(text: str) -> Any:
    # NaN and Infinity are no JSON, and would make the stored message none either.
    return json.loads(text, strict=False, parse_constant=_refuse)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON value")


def _explain(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)
