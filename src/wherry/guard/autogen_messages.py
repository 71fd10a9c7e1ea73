"""AutoGen's messages as dicts that `fit` reads, and back: those that were not changed are the objects that came in."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast

from autogen_core import FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema

from wherry.guard.pieces import Dict

_PICTURE = "picture"
"""Key of a part that holds AutoGen's own object."""


class AutoGenMessages:
    """The messages of one call.

    Args:
        messages: As a model client is given them.
    """

    def __init__(self, messages: Sequence[LLMMessage]) -> None:
        self.dicts: list[dict[str, Any]] = []
        """As OpenAI has them: a message of several results is as many dicts."""
        self._came_as: dict[int, tuple[LLMMessage, int]] = {}
        """By the id of a dict: the message that it is of, and how many dicts that one is."""
        for message in messages:
            dicts = _dicts(message)
            self.dicts += dicts
            self._came_as.update({id(raw): (message, len(dicts)) for raw in dicts})

    def back(self, dicts: Sequence[Dict]) -> list[LLMMessage]:
        """The messages for what `fit` made of `dicts`."""
        out: list[LLMMessage] = []
        for is_results, found in groupby(dicts, key=lambda raw: raw["role"] == "tool"):
            run = list(found)
            if not is_results:
                out += [self._one(raw) for raw in run]
                continue
            while run:
                message, count = self._came_as.get(id(run[0]), (None, 0))
                whole = run[:count]
                if message is not None and all(self._came_as.get(id(raw), (None,))[0] is message for raw in whole):
                    out.append(message)
                    del run[:count]
                    continue
                # Results of one turn that are not as they came: all that follow are one message with them.
                out.append(FunctionExecutionResultMessage(content=[_result(raw) for raw in run]))
                break
        return out

    def _one(self, raw: Dict) -> LLMMessage:
        came = self._came_as.get(id(raw))
        return _message(raw) if came is None else came[0]


def schemas(tools: Sequence[Tool | ToolSchema]) -> list[Dict]:
    """Tools as dicts."""
    return [cast("Dict", tool.schema if isinstance(tool, Tool) else tool) for tool in tools]


def _dicts(message: LLMMessage) -> list[dict[str, Any]]:
    if isinstance(message, SystemMessage):
        return [{"role": "system", "content": message.content}]
    if isinstance(message, UserMessage):
        content = message.content
        parts = content if isinstance(content, str) else [_part(part) for part in content]
        return [{"role": "user", "content": parts, "name": message.source}]
    if isinstance(message, AssistantMessage):
        if isinstance(message.content, str):
            return [{"role": "assistant", "content": message.content, "name": message.source}]
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.content
        ]
        return [{"role": "assistant", "content": message.thought, "tool_calls": calls, "name": message.source}]
    return [
        {
            "role": "tool",
            "content": result.content,
            "tool_call_id": result.call_id,
            "name": result.name,
            "is_error": bool(result.is_error),
        }
        for result in message.content
    ]


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    # Its size is all that is counted: AutoGen would compress the whole picture for each question after its bytes.
    width, height = part.image.size
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)
    url = f"data:image/png;base64,{b64encode(header).decode()}"
    return {"type": "image_url", "image_url": {"url": url}, _PICTURE: part}


def _message(raw: Dict) -> LLMMessage:
    content = raw["content"]
    name = str(raw.get("name") or raw["role"])
    match raw["role"]:
        case "system":
            return SystemMessage(content=_text(content))
        case "assistant":
            calls = [
                FunctionCall(call["id"], call["function"]["arguments"], call["function"]["name"])
                for call in raw.get("tool_calls", ())
            ]
            if calls:
                return AssistantMessage(content=calls, thought=content or None, source=name)
            return AssistantMessage(content=_text(content), source=name)
        case _:
            parts = content if isinstance(content, str) else [part.get(_PICTURE) or part["text"] for part in content]
            return UserMessage(content=parts, source=name)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in cast("list[Dict]", content or []))


def _result(raw: Dict) -> FunctionExecutionResult:
    return FunctionExecutionResult(
        content=_text(raw["content"]),
        name=str(raw.get("name") or ""),
        call_id=str(raw.get("tool_call_id") or ""),
        is_error=bool(raw.get("is_error")),
    )
