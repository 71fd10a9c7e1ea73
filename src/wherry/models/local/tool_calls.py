"""Tool calls with models that are too small to be trusted with them: told in words, written under a grammar, read back.

The words are those of Qwen2.5's chat template (the Hermes format), set here and not by the server, because the server
takes no grammar beside `tools`, and by its own handling 20 of 20 calls were left as bare JSON in the content (llama.cpp
2026.10, Qwen2.5-Coder 0.5B and 1.5B).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from wherry.messages import Message, ToolCall, ToolSchema
from wherry.models.local.worked_examples import as_turns
from wherry.models.protocol import ModelReply
from wherry.models.tool_arguments import parse_arguments

OPEN, CLOSE = "<tool_call>", "</tool_call>"
CONTROL_TOKENS = (OPEN, CLOSE, "<tool_response>", "</tool_response>", "<tools>", "</tools>")
"""What this format adds to the control tokens of the chat template."""

# Without fixed separators a model can hang in blanks up to its last token. Lenient: keywords that the grammar does not
# know are ignored, the tool's own validation sees to them.
_GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}

_CALL = re.compile(rf"{OPEN}\s*(.*?)\s*(?:{CLOSE}|\Z)", re.DOTALL)


def beginning(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> list[Message]:
    """The part of `rendered` that is the same in every run: instructions, tools and examples."""
    return _beginning(messages, tools)[0]


def _beginning(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> tuple[list[Message], str]:
    """The beginning, and what of the system prompt moves behind it, to the task."""
    system, examples, behind = as_turns(messages[0].content) if _has_system(messages) else ("", [], "")
    if tools:
        system = f"{system}\n\n{_announced(tools)}".lstrip()
    return ([Message("system", system)] if system else []) + examples, behind


def _has_system(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[0].role == "system"


def rendered(messages: Sequence[Message], tools: Sequence[ToolSchema]) -> list[Message]:
    """The messages as plain text turns: tools in the system prompt, calls and results as tagged text."""
    out, behind = _beginning(messages, tools)
    rest = list(messages[1:] if _has_system(messages) else messages)
    if behind and rest and rest[0].role == "user":
        rest[0] = replace(rest[0], content=f"{behind}\n\n{rest[0].content}")
    elif behind:
        out.append(Message("user", behind))
    for message in rest:
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            if out and out[-1].role == "user" and out[-1].name == "tool":
                out[-1] = replace(out[-1], content=f"{out[-1].content}\n{text}")
            else:
                out.append(Message("user", text, name="tool"))
        elif message.tool_calls:
            calls = "\n".join(_written(call) for call in message.tool_calls)
            out.append(Message("assistant", f"{message.content}\n{calls}".lstrip("\n")))
        else:
            out.append(message)
    return [replace(m, name=None) for m in out]


def _announced(tools: Sequence[ToolSchema]) -> str:
    lines = "\n".join(json.dumps(_said(tool), ensure_ascii=False).replace("<|", "< |") for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within"
        f' {OPEN}{CLOSE} XML tags:\n{OPEN}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CLOSE}'
    )


def _said(tool: ToolSchema) -> dict[str, Any]:
    """What the model reads of a tool. Every token costs 12 ms: no wrapper, nothing that the grammar sees to anyway."""
    properties = cast("Mapping[str, Mapping[str, Any]]", tool.parameters.get("properties", {}))
    said: dict[str, Any] = {"name": tool.name, "description": tool.description}
    said["parameters"] = {
        name: {key: value for key, value in body.items() if key not in ("title", "default")}
        for name, body in properties.items()
    }
    optional = [name for name in properties if name not in tool.parameters.get("required", ())]
    if optional:
        said["optional"] = optional
    if "$defs" in tool.parameters:
        said["$defs"] = tool.parameters["$defs"]
    return said


def _written(call: ToolCall) -> str:
    # As the grammar makes the model write it, so that the prompt cache holds what the model wrote.
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return f'{OPEN}\n{{"name": {json.dumps(call.name)}, "arguments": {arguments}}}\n{CLOSE}'


def repeated_call(messages: Sequence[Message]) -> str | None:
    """The tool that was called twice in a row with the same arguments: a third time would tell nothing new."""
    said = [[(call.name, dict(call.arguments)) for call in m.tool_calls] for m in messages if m.role == "assistant"]
    return said[-1][0][0] if len(said) > 1 and said[-1] and said[-1] == said[-2] else None


def call_grammar(tools: Iterable[ToolSchema], *, forced: bool) -> str:
    """A grammar that lets the model write one call of one of the tools.

    Args:
        tools: The tools.
        forced: Whether nothing else may be written; otherwise a reply may also be any text.
    """
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": _closed(tool.parameters)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema = {"anyOf": calls} if len(calls) > 1 else calls[0]
    # References inside a tool's parameters are relative to them.
    start = "call" if forced else "call | text"
    return (
        f"%llguidance {{}}\nstart: {start}\n"
        f'call: "{OPEN}\\n" body "\\n{CLOSE}"\n'
        f"body: %json {json.dumps(_guided(schema))}\n" + ("" if forced else "text: /[^<](?s:.*)/\n")
    )


def words_grammar() -> str:
    """A grammar for words: a model whose conversation is full of calls writes another one, tools or not."""
    return "%llguidance {}\nstart: /[^<{](?s:.*)/\n"


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """A grammar for replies that satisfy a JSON Schema."""
    return f"%llguidance {{}}\nstart: %json {json.dumps(_guided(schema))}\n"


def _guided(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "x-guidance": _GUIDANCE}


def _closed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without a word on further properties a small model invents them."""
    return {"additionalProperties": False, **parameters, "type": "object"}


def read_calls(reply: ModelReply, request: Sequence[Message], tools: Iterable[ToolSchema]) -> ModelReply:
    """The reply with its tagged calls as tool calls. What cannot be read stays text."""
    names = {tool.name for tool in tools}
    calls: list[ToolCall] = []
    for number, found in enumerate(_CALL.finditer(reply.text)):
        call = _call(found.group(1), names)
        if call is None:
            return reply
        calls.append(replace(call, id=_id(request, reply.text, number)))
    if not calls:
        return reply
    text = reply.text[: reply.text.index(OPEN)].strip()
    return replace(reply, text=text, tool_calls=tuple(calls), finish_reason="tool_calls")


def _call(text: str, names: set[str]) -> ToolCall | None:
    try:
        raw: object = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    call = cast("dict[str, Any]", raw)
    if call.get("name") not in names:
        return None
    return ToolCall("", str(call["name"]), parse_arguments(call.get("arguments")))


def _id(request: Sequence[Message], text: str, number: int) -> str:
    """An id that is the same when the same conversation is had again, so that a recorded run can be replayed."""
    last = request[-1].encode() if request else b""
    seed = b"\0".join([str(len(request)).encode(), last, text.encode("utf-8", "replace"), str(number).encode()])
    return f"call_{hashlib.sha256(seed).hexdigest()[:16]}"
