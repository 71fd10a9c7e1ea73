"""The chat completions format, which most servers speak: from a request to JSON, and from JSON to a reply."""

from __future__ import annotations

import re
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from wherry.errors import ConfigurationError, ModelError
from wherry.messages import ROLES, Image, Message, ToolCall, ToolSchema, Usage, canonical
from wherry.models.failures import FailureKind
from wherry.models.protocol import ModelReply, ModelRequest
from wherry.models.tool_arguments import parse_arguments

RESERVED = frozenset(
    {"model", "messages", "tools", "functions", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"}
)
"""Parameters that are wherry's to set; `max_output` is what bounds the output."""

Body = dict[str, Any]  # Any: JSON, made and read here


# ---- what goes out


def check(request: ModelRequest) -> None:
    """Refuse what a server would misread.

    llama.cpp (2026.10) answers 200 to empty messages and unknown roles; others complain in ways that say nothing.

    Raises:
        ConfigurationError: No messages, an unknown role, a tool's message without the call that it answers, a call
            without an answer, or settings that are wherry's to make.
    """
    if not request.messages:
        raise ConfigurationError("a request needs at least one message, this one has none")
    if request.max_output is not None and request.max_output < 1:
        raise ConfigurationError(f"max_output is {request.max_output}; a reply needs at least one token")
    check_settings(request.settings)
    pending: dict[str, str] = {}
    for position, message in enumerate(request.messages):
        where = f"message {position} ({message.role})"
        if message.role not in ROLES:
            raise ConfigurationError(f"{where}: role {message.role!r} is none of {', '.join(ROLES)}")
        if message.role == "tool":
            if not message.tool_call_id:
                raise ConfigurationError(f"{where} has no tool_call_id", hint="say which call it answers")
            if pending.pop(message.tool_call_id, None) is None:
                raise ConfigurationError(
                    f"{where} answers the call {message.tool_call_id!r}, "
                    "which the assistant's last message did not make, or which has its answer already"
                )
            continue
        _nothing_pending(pending, where)
        if message.tool_calls and message.role != "assistant":
            raise ConfigurationError(f"{where} has tool calls; only an assistant's message can")
        if message.images and message.role != "user":
            raise ConfigurationError(f"{where} has images; only a user's message can")
        for call in message.tool_calls:
            if not call.id or call.id in pending:
                raise ConfigurationError(f"{where}: the call of {call.name!r} has no id of its own ({call.id!r})")
            pending[call.id] = call.name
    _nothing_pending(pending, "the end")


def _nothing_pending(pending: Mapping[str, str], where: str) -> None:
    if pending:
        calls = ", ".join(f"{name} ({call!r})" for call, name in pending.items())
        raise ConfigurationError(f"tool calls without a result before {where}: {calls}")


def check_settings(settings: Mapping[str, Any]) -> None:
    if taken := sorted(RESERVED & settings.keys()):
        raise ConfigurationError(
            f"settings cannot have {', '.join(taken)}: wherry sets them",
            hint="max_output bounds a reply's tokens" if {"max_tokens", "max_completion_tokens"} & set(taken) else None,
        )


def request_body(request: ModelRequest, *, model: str, settings: Mapping[str, Any], limit: Mapping[str, int]) -> Body:
    """The JSON of a checked request.

    Args:
        request: What is asked.
        model: The name that the server knows the model by.
        settings: The client's own; the request's go over them.
        limit: The parameter that bounds the output, under the name that the server wants.
    """
    # Nothing said to begin with is nothing sent: some models' templates take no message of the system's at all.
    messages = [wire_message(m) for m in request.messages if m.role != "system" or m.content]
    body: Body = {"model": model, "messages": messages}
    if request.tools:
        body["tools"] = [wire_tool(tool) for tool in request.tools]
    if request.response_format is not None:
        body["response_format"] = wire_format(request.response_format)
    body.update(settings)
    body.update(request.settings)
    body.update(limit)
    return body


def wire_message(message: Message) -> Body:
    out: Body = {"role": message.role, "content": sendable(message.content)}
    if message.images:
        parts: list[Body] = [{"type": "text", "text": out["content"]}] if message.content else []
        parts += [{"type": "image_url", "image_url": {"url": _address(image)}} for image in message.images]
        out["content"] = parts
    if message.tool_calls:
        out["tool_calls"] = [_wire_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    elif message.name is not None and (name := re.sub(r"[^\w-]", "_", message.name, flags=re.ASCII)[:64]):
        out["name"] = name  # OpenAI takes no other characters; a tool's message has no name there
    return out


def wire_tool(tool: ToolSchema) -> Body:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": sendable(tool.description), "parameters": tool.parameters},
    }


def wire_format(schema: Mapping[str, Any]) -> Body:
    inner: Body = {"name": "reply", "schema": schema}
    if _is_strict(schema):
        inner["strict"] = True
    return {"type": "json_schema", "json_schema": inner}


def _is_strict(schema: object) -> bool:
    """Whether OpenAI's strict mode takes it: every object closed, every property required.

    Source: https://platform.openai.com/docs/guides/structured-outputs (November 2026). Servers that constrain by
    grammar follow the schema with or without the word.
    """
    if isinstance(schema, list):
        return all(_is_strict(item) for item in cast("list[object]", schema))
    if not isinstance(schema, Mapping):
        return True
    node = cast("Mapping[str, Any]", schema)
    if node.get("type") == "object":
        properties = cast("Mapping[str, Any]", node.get("properties", {}))
        required = cast("Sequence[str]", node.get("required", ()))
        if node.get("additionalProperties") is not False or set(required) != set(properties):
            return False
    return all(_is_strict(value) for value in node.values())


def _wire_call(call: ToolCall) -> Body:
    # Canonical bytes: the same call is the same text in every request, so that a prompt cache stays warm.
    arguments = sendable(canonical(call.arguments).decode("utf-8", "surrogatepass"))
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _address(image: Image) -> str:
    if image.url is not None:
        return image.url
    return f"data:{image.media_type};base64,{b64encode(image.data).decode()}"


def sendable(text: str) -> str:
    """The text with lone surrogates replaced: UTF-8 cannot carry them, and no server takes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


# ---- what comes back


def no_answer(what: str, *, kind: FailureKind = FailureKind.ServerError) -> ModelError:
    return ModelError(what, kind=str(kind), diagnosis={"kind": str(kind), "detail": what})


def read_reply(raw: object) -> ModelReply:
    """The reply in a whole answer's JSON.

    Raises:
        ModelError: It has no choices, or is none at all.
    """
    if not isinstance(raw, Mapping):
        raise no_answer(f"the server's answer is no chat completion: {str(raw)[:200]!r}")
    answer = cast("Mapping[str, Any]", raw)
    choice = _first_choice(answer)
    if choice is None:
        raise no_answer("the server's answer has no choices")
    message = _mapping(choice.get("message"))
    draft = Draft(model=_text(answer.get("model")) or None)
    draft.add_delta(message, whole=True)
    if not draft.text and (text := choice.get("text")):
        draft.texts.append(_text(text))
    draft.finish_reason = _text(choice.get("finish_reason")) or None
    draft.usage = read_usage(answer.get("usage"))
    likely = _first_token(choice.get("logprobs"))
    return replace(draft.reply(), first_token=likely) if likely else draft.reply()


def _first_token(raw: object) -> dict[str, float]:
    """Token -> log-probability, of those that the reply might have begun with."""
    content = _mapping(raw).get("content")
    if not isinstance(content, list) or not content:
        return {}
    first = _mapping(cast("list[object]", content)[0])
    others = first.get("top_logprobs")
    found: dict[str, float] = {}
    for one in (first, *(cast("list[object]", others) if isinstance(others, list) else ())):
        token, likely = _mapping(one).get("token"), _mapping(one).get("logprob")
        # llama.cpp writes what cannot be as null, others as -9999 or -inf.
        if isinstance(token, str) and isinstance(likely, int | float) and likely <= 0:
            found[token] = float(likely)
    return found


def read_usage(raw: object) -> Usage | None:
    """What the server says was used; None when it does not."""
    usage = _mapping(raw)
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = usage.get("completion_tokens", usage.get("output_tokens"))
    if not isinstance(prompt, int) and not isinstance(output, int):
        return None
    details = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    # DeepSeek has a field of its own.
    cached = details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens")
    tokens = _count(prompt)
    return Usage(
        requests=1,
        input_tokens=tokens,
        cached_tokens=min(_count(cached), tokens),
        output_tokens=_count(output),
        usd=None,
    )


@dataclass(slots=True)
class _CallDraft:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    parsed: dict[str, Any] | None = None


@dataclass(slots=True)
class Draft:
    """A reply that is being put together, from one message or from a stream's deltas."""

    texts: list[str] = field(default_factory=list[str])
    calls: list[_CallDraft] = field(default_factory=list[_CallDraft])
    by_index: dict[int, _CallDraft] = field(default_factory=dict[int, _CallDraft])
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come: no text, no call, and no word that there will be none."""
        return not self.texts and not self.calls and self.finish_reason is None

    def add_chunk(self, chunk: Mapping[str, Any]) -> str:
        """Take in one event of a stream; the text that it brought."""
        self.model = _text(chunk.get("model")) or self.model
        self.usage = read_usage(chunk.get("usage")) or self.usage
        choice = _first_choice(chunk)
        if choice is None:
            return ""
        text = self.add_delta(_mapping(choice.get("delta") or choice.get("message")))
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        return text

    def add_delta(self, delta: Mapping[str, Any], *, whole: bool = False) -> str:
        """Take in a delta, or a whole message, whose calls are each complete; the text that it brought."""
        text = _content(delta.get("content")) or _text(delta.get("refusal"))
        if text:
            self.texts.append(text)
        raw_calls = delta.get("tool_calls")
        for raw in cast("list[object]", raw_calls) if isinstance(raw_calls, list) else ():
            self._add_call(_mapping(raw), new=whole)
        # The older form of one call, from servers of 2023; the newer ones send both.
        if not raw_calls and (function := _mapping(delta.get("function_call"))):
            self._add_call({"index": 0, "function": function})
        return text

    def _add_call(self, raw: Mapping[str, Any], *, new: bool = False) -> None:
        function = _mapping(raw.get("function"))
        call_id, name, index = _text(raw.get("id")), _text(function.get("name")), raw.get("index")
        call = self.by_index.get(index) if isinstance(index, int) else (self.calls[-1] if self.calls else None)
        # Some servers give every parallel call the index 0, or none: a new id that comes with a name is a new call.
        if new or call is None or (call_id and name and call.id != call_id and call.name):
            call = _CallDraft()
            self.calls.append(call)
            if isinstance(index, int):
                self.by_index[index] = call
        call.id = call.id or call_id
        call.name = call.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.parsed = parse_arguments(arguments)

    def reply(self) -> ModelReply:
        return ModelReply(
            self.text,
            tool_calls=tuple(self._finished_calls()),
            usage=self.usage,
            finish_reason=self.finish_reason,
            model=self.model,
        )

    def _finished_calls(self) -> Iterator[ToolCall]:
        ids: set[str] = set()
        for call in self.calls:
            call_id = call.id if call.id and call.id not in ids else f"call_{uuid.uuid4().hex[:24]}"
            ids.add(call_id)
            arguments = call.parsed if call.parsed is not None else parse_arguments("".join(call.arguments))
            yield ToolCall(call_id, call.name, arguments)


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    return _mapping(cast("list[object]", choices)[0])


def _content(content: object) -> str:
    """Text, or the texts of a list of parts."""
    if isinstance(content, list):
        return "".join(_text(_mapping(part).get("text")) for part in cast("list[object]", content))
    return _text(content)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0
