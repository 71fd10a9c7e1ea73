"""OpenAI's responses: items instead of messages, which are read as chat completions' messages and written back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

from wherry.guard.openai_messages import OpenAIMessages
from wherry.guard.pieces import as_dict, key_of
from wherry.guard.proxy.formats import Body, Said, dicts_in, parsed
from wherry.guard.proxy.refusals import Refusal, Shape
from wherry.messages import Message
from wherry.models.chat_completions import read_usage

_OF_TEXT = {"text": "input_text", "image_url": "input_image"}


class ResponsesFormat:
    """https://platform.openai.com/docs/api-reference/responses (November 2026).

    What the server remembers of earlier responses (`previous_response_id`, `conversation`) is not seen here, and not
    bounded by more than the server's own `truncation`, which is set to `auto` then unless the client says otherwise.
    """

    path = "responses"
    shape: Shape = "openai"
    style: Literal["openai", "anthropic"] = "openai"
    output_names = ("max_output_tokens",)

    def conversation(self, body: Body) -> tuple[list[Body], object]:
        messages = [message for message, _ in _read(body)]
        if not messages:
            raise Refusal(400, "`input` has to be a text or a list of at least one item", code="invalid_input")
        return messages, None

    def with_conversation(self, body: Body, messages: Sequence[Body], system: object) -> Body:
        pairs = _read(body)
        sources = {key_of(message): items for message, items in pairs}
        fields: Body = {}
        items: list[Any] = []
        for position, message in enumerate(messages):
            source = sources.get(key_of(message))
            if position == 0 and message.get("role") == "system" and "instructions" in body:
                if source is None:
                    fields["instructions"] = _text(message)
                continue
            items += _items(message) if source is None else source
        fields["input"] = items
        return fields

    def tools(self, body: Body) -> list[Body]:
        tools = dicts_in(body.get("tools"))
        schema = as_dict(as_dict(body.get("text")).get("format")).get("schema")
        return [*tools, {"name": "reply", "parameters": schema}] if schema else tools

    def defaults(self, body: Body) -> Body:
        remembered = body.get("previous_response_id") or body.get("conversation")
        return {"truncation": "auto"} if remembered and "truncation" not in body else {}

    def usage_option(self, body: Body) -> Body:
        return {}  # its streams always tell

    def whole(self, answer: Body) -> Said:
        incomplete = as_dict(answer.get("incomplete_details")).get("reason")
        finish = incomplete or answer.get("status")
        model = answer.get("model")
        return Said(
            _said(answer),
            read_usage(answer.get("usage")),
            finish if isinstance(finish, str) else None,
            model if isinstance(model, str) else None,
        )

    def stream(self, events: Iterable[str]) -> Said:
        for event in parsed(events):
            if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
                return self.whole(dict(as_dict(event.get("response"))))
        return Said()


def _read(body: Body) -> list[tuple[Body, list[Any]]]:
    """The messages that a request's items say, each with the items that it was read from."""
    out: list[tuple[Body, list[Any]]] = []
    if isinstance(instructions := body.get("instructions"), str) and instructions:
        out.append(({"role": "system", "content": instructions}, []))
    given = body.get("input")
    if isinstance(given, str):
        out.append(({"role": "user", "content": given}, [{"role": "user", "content": given}]))
        return out
    thoughts: list[Any] = []
    for item in cast("list[Any]", given) if isinstance(given, list) else []:
        raw = as_dict(item)
        kind = raw.get("type") or "message"
        if kind == "function_call":
            call = {
                "id": raw.get("call_id"),
                "type": "function",
                "function": {"name": raw.get("name"), "arguments": raw.get("arguments") or "{}"},
            }
            if out and out[-1][0].get("tool_calls") and not thoughts:  # made together
                out[-1][0]["tool_calls"].append(call)
                out[-1][1].append(item)
            elif out and out[-1][0]["role"] == "assistant" and not thoughts:
                out[-1][0]["tool_calls"] = [call]
                out[-1][1].append(item)
            else:
                out.append(({"role": "assistant", "content": None, "tool_calls": [call]}, [*thoughts, item]))
                thoughts = []
        elif kind == "function_call_output":
            output = raw.get("output")
            message = {"role": "tool", "tool_call_id": raw.get("call_id"), "content": output}
            out.append((message, [item]))
        elif kind == "message":
            role = "system" if raw.get("role") == "developer" else raw.get("role") or "user"
            before = thoughts if role == "assistant" else []
            out.append(({"role": role, "content": raw.get("content")}, [*before, item]))
            thoughts = []
        else:
            # Thoughts, and calls of the server's own tools: they stay before what the model did next.
            thoughts.append(item)
            out_text = json.dumps(item)
            if kind != "reasoning":
                out.append(({"role": "assistant", "content": out_text}, [item]))
                thoughts.pop()
    return out


def _items(message: Body) -> list[Any]:
    """The items for a message that was changed, or that is new."""
    role = message.get("role")
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": _text(message)}]
    items: list[Any] = []
    content = message.get("content")
    if content:
        # As lists of parts: llama.cpp takes what an assistant said in no other form.
        text_type = "output_text" if role == "assistant" else "input_text"
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[Any]", content)
        written = [_part(as_dict(part), text_type) for part in parts]
        items.append({"type": "message", "role": role, "content": written})
    for call in dicts_in(message.get("tool_calls")):
        function = as_dict(call.get("function"))
        items.append(
            {
                "type": "function_call",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return items


def _part(part: Any, text_type: str) -> Any:  # Any: JSON
    if part.get("type") == "text":
        return {"type": text_type, "text": part.get("text")}
    if part.get("type") == "image_url" and isinstance(part.get("image_url"), dict):
        return {"type": _OF_TEXT["image_url"], **as_dict(part["image_url"]), "image_url": part["image_url"].get("url")}
    return part


def _text(message: Body) -> str:
    parts, _ = OpenAIMessages().parts(message)
    return parts[0].message.content if parts else ""


def _said(answer: Body) -> Message | None:
    """The reply in a response's items, as one message."""
    pairs = _read({"input": answer.get("output")})
    texts = [_text({**message, "tool_calls": None}) for message, _ in pairs if message.get("content")]
    calls = [call for message, _ in pairs for call in dicts_in(message.get("tool_calls"))]
    if not texts and not calls:
        return None
    parts, _ = OpenAIMessages().parts(
        {"role": "assistant", "content": "\n".join(texts), **({"tool_calls": calls} if calls else {})}
    )
    return parts[0].message if parts else None


RESPONSES = ResponsesFormat()
