"""Anthropic's messages, as Anthropic, llama.cpp, vLLM and Ollama serve them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from wherry.guard.anthropic_messages import AnthropicMessages
from wherry.guard.proxy.formats import Body, Said, dicts_in, messages_in, parsed
from wherry.guard.proxy.refusals import Shape
from wherry.messages import Message, ToolCall, Usage
from wherry.models.tool_arguments import parse_arguments


class AnthropicFormat:
    """https://docs.anthropic.com/en/api/messages (November 2026)."""

    path = "messages"
    shape: Shape = "anthropic"
    style: Literal["openai", "anthropic"] = "anthropic"
    output_names = ("max_tokens",)

    def conversation(self, body: Body) -> tuple[list[Body], object]:
        return messages_in(body, "messages"), body.get("system")

    def with_conversation(self, body: Body, messages: Sequence[Body], system: object) -> Body:
        fields: Body = {"messages": list(messages)}
        if system is not None and system != body.get("system"):
            fields["system"] = system
        return fields

    def tools(self, body: Body) -> list[Body]:
        return dicts_in(body.get("tools"))

    def defaults(self, body: Body) -> Body:
        return {}

    def usage_option(self, body: Body) -> Body:
        return {}  # its streams always tell

    def whole(self, answer: Body) -> Said:
        content = answer.get("content")
        return Said(
            _message(cast("list[Any]", content)) if isinstance(content, list) else None,
            _usage(answer.get("usage")),
            _text(answer.get("stop_reason")),
            _text(answer.get("model")),
        )

    def stream(self, events: Iterable[str]) -> Said:
        blocks: dict[object, Body] = {}
        told: Body = {}
        finish = model = None
        for event in parsed(events):
            match event.get("type"):
                case "message_start":
                    message = cast("Body", event.get("message") or {})
                    model = _text(message.get("model"))
                    told.update(_dict(message.get("usage")))
                case "content_block_start":
                    blocks[event.get("index")] = {**_dict(event.get("content_block")), "json": ""}
                case "content_block_delta":
                    delta, block = _dict(event.get("delta")), blocks.setdefault(event.get("index"), {"type": "text"})
                    if "text" in delta:
                        block["text"] = str(block.get("text") or "") + str(delta["text"])
                    if "partial_json" in delta:
                        block["json"] = str(block.get("json") or "") + str(delta["partial_json"])
                case "message_delta":
                    told.update({key: value for key, value in _dict(event.get("usage")).items() if value is not None})
                    finish = _text(_dict(event.get("delta")).get("stop_reason"))
                case _:
                    pass
        for block in blocks.values():
            if block.get("type") == "tool_use" and block.get("json"):
                block["input"] = parse_arguments(block["json"])
            block.pop("json", None)
        return Said(_message([*blocks.values()]) if blocks else None, _usage(told), finish, model)


def _message(blocks: list[Any]) -> Message | None:
    parts, _ = AnthropicMessages().parts({"role": "assistant", "content": blocks})
    if not parts:
        return None
    message = parts[0].message
    calls = [ToolCall(call.id, call.name, dict(call.arguments)) for call in message.tool_calls]
    return Message("assistant", message.content, tool_calls=calls)


def _usage(raw: object) -> Usage | None:
    usage = _dict(raw)
    if "input_tokens" not in usage and "output_tokens" not in usage:
        return None
    cached = _count(usage.get("cache_read_input_tokens"))
    fresh = _count(usage.get("input_tokens")) + _count(usage.get("cache_creation_input_tokens"))
    return Usage(1, fresh + cached, cached, _count(usage.get("output_tokens")), usd=None)


def _dict(value: object) -> Body:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


ANTHROPIC = AnthropicFormat()
