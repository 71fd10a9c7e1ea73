"""OpenAI's responses: items instead of messages, which are read as chat completions' messages and written back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from wherry.guard.openai_messages import OpenAIMessages
from wherry.guard.pieces import Dict, as_dict, key_of
from wherry.guard.proxy.formats import Body, Said, dicts_in, parsed
from wherry.guard.proxy.refusals import Refusal, Shape
from wherry.messages import Message
from wherry.models.chat_completions import read_usage

_NO_ARGUMENTS = frozenset({"type", "id", "call_id", "status", "name"})
"""Fields of a call that are not what it asks for."""
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
        # A prompt that is kept at the server, or what it remembers, is something to answer, too.
        if not messages and not any(body.get(name) for name in ("prompt", "previous_response_id", "conversation")):
            raise Refusal(400, "`input` has to be a text or a list of at least one item", code="invalid_input")
        return messages, None

    def with_conversation(self, body: Body, messages: Sequence[Body], system: object) -> Body:
        pairs = _read(body)
        sources = {key_of(message): items for message, items in pairs}
        origins = _origins(body)
        fields: Body = {}
        items: list[Any] = []
        for position, message in enumerate(messages):
            source = sources.get(key_of(message))
            if position == 0 and message.get("role") == "system" and "instructions" in body:
                if source is None:
                    fields["instructions"] = _text(message)
                continue
            items += _items(message, origins) if source is None else source
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
        kind = str(raw.get("type") or "message")
        if kind == "function_call" or (kind.endswith("_call") and isinstance(raw.get("call_id"), str)):
            call = {"id": raw.get("call_id"), "type": "function", "function": _function(raw, kind)}
            if out and out[-1][0].get("tool_calls") and not thoughts:  # made together
                out[-1][0]["tool_calls"].append(call)
                out[-1][1].append(item)
            elif out and out[-1][0]["role"] == "assistant" and not thoughts:
                out[-1][0]["tool_calls"] = [call]
                out[-1][1].append(item)
            else:
                out.append(({"role": "assistant", "content": None, "tool_calls": [call]}, [*thoughts, item]))
                thoughts = []
        elif kind.endswith("_call_output"):
            message = {"role": "tool", "tool_call_id": raw.get("call_id"), "content": _output(raw.get("output"))}
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


def _function(raw: Dict, kind: str) -> Body:
    """What a call says: of a function, or of a tool of another kind, whose result has to follow it all the same."""
    if kind == "function_call":
        return {"name": raw.get("name"), "arguments": raw.get("arguments") or "{}"}
    rest = {key: value for key, value in raw.items() if key not in _NO_ARGUMENTS}
    return {"name": raw.get("name") or kind, "arguments": json.dumps(rest, ensure_ascii=False)}


def _output(output: object) -> object:
    picture = as_dict(output).get("image_url")  # of a screen
    return [{"type": "input_image", "image_url": picture}] if picture else output


def _origins(body: Body) -> dict[object, Body]:
    """The items of calls that are no function's, and of their results: `custom_tool_call`, `shell_call_output`."""
    given = body.get("input")
    out: dict[object, Body] = {}
    for item in dicts_in(given):
        kind, call_id = str(item.get("type")), item.get("call_id")
        if kind.endswith(("_call", "_call_output")) and not kind.startswith("function_") and isinstance(call_id, str):
            out[call_id, kind.endswith("_output")] = item
    return out


def _items(message: Body, origins: Mapping[object, Body]) -> list[Any]:
    """The items for a message that was changed, or that is new."""
    role = message.get("role")
    if role == "tool":
        return [_result(message, origins)]
    items: list[Any] = []
    content = message.get("content")
    if content:
        # As lists of parts: llama.cpp takes what an assistant said in no other form.
        text_type = "output_text" if role == "assistant" else "input_text"
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[Any]", content)
        written = [_part(as_dict(part), text_type) for part in parts]
        items.append({"type": "message", "role": role, "content": written})
    for call in dicts_in(message.get("tool_calls")):
        items.append(_call(call, origins))
    return items


def _call(call: Body, origins: Mapping[object, Body]) -> Body:
    function = as_dict(call.get("function"))
    call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
    origin = origins.get((call_id, False))
    if origin is None:
        return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    said = as_dict(json.loads(arguments) if isinstance(arguments, str) else None)
    # Only what it had: a note of what was left out is no field of such a call. Its id would want thoughts before it.
    fields: Body = {key: said.get(key, value) for key, value in origin.items() if key != "id"}
    if origin.get("type") == "custom_tool_call" and "input" not in said:
        fields["input"] = arguments
    return fields


def _result(message: Body, origins: Mapping[object, Body]) -> Body:
    call_id, text = message.get("tool_call_id"), _text(message)
    origin = origins.get((call_id, True), {})
    made = origins.get((call_id, False))
    if not origin and made is not None:
        origin = {"type": f"{made['type']}_output"}
    output: object = text
    if isinstance(parts := origin.get("output"), list) and (first := dicts_in(cast("object", parts))[:1]):
        output = [{**first[0], "stdout": text, "stderr": ""}] if "stdout" in first[0] else text
    return {"type": origin.get("type", "function_call_output"), "call_id": call_id, "output": output}


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
