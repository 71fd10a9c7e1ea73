"""Messages as smolagents has them, and their way to wherry's and back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, cast

from wherry.compat.smolagents.agent_types import picture_of
from wherry.compat.smolagents.monitoring import TokenUsage
from wherry.messages import Image, Message, ToolCall, Usage
from wherry.models import ModelReply


class MessageRole(str, Enum):  # noqa: UP042 - `role == "user"` and `str(role)` behave as there
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL_CALL = "tool-call"
    TOOL_RESPONSE = "tool-response"

    @classmethod
    def roles(cls) -> list[str]:
        return [role.value for role in cls]


@dataclass
class ChatMessageToolCallFunction:
    """What is called, and with what."""

    arguments: Any  # Any: JSON, or the text of it
    name: str
    description: str | None = None


@dataclass
class ChatMessageToolCall:
    """A call that a model wants."""

    function: ChatMessageToolCallFunction
    id: str
    type: str

    def __str__(self) -> str:
        return f"Call: {self.id}: Calling {self.function.name} with arguments: {self.function.arguments}"


@dataclass
class ChatMessage:
    """A message to or from a model."""

    role: MessageRole
    content: str | list[dict[str, Any]] | None = None  # Any: parts, by their `type`
    tool_calls: list[ChatMessageToolCall] | None = None
    raw: Any = None  # Any: what the server sent
    token_usage: TokenUsage | None = None

    def __post_init__(self) -> None:
        if self.tool_calls is not None:
            self.tool_calls = [_tool_call(call) for call in self.tool_calls]

    def model_dump_json(self) -> str:
        return json.dumps({key: value for key, value in self.dict().items() if key != "raw"}, default=str)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], raw: Any = None, token_usage: TokenUsage | None = None) -> ChatMessage:
        return cls(MessageRole(data["role"]), data.get("content"), data.get("tool_calls"), raw, token_usage)

    def dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "content": self.content,
            "tool_calls": None if self.tool_calls is None else [asdict(call) for call in self.tool_calls],
            "raw": self.raw,
            "token_usage": None if self.token_usage is None else self.token_usage.dict(),
        }

    def render_as_markdown(self) -> str:
        calls = (
            json.dumps({"tool": call.function.name, "arguments": call.function.arguments})
            for call in self.tool_calls or ()
        )
        return str(self.content) + "\n".join(calls)


@dataclass
class ChatMessageToolCallStreamDelta:
    """A piece of a call."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: ChatMessageToolCallFunction | None = None


@dataclass
class ChatMessageStreamDelta:
    """A piece of a reply."""

    content: str | None = None
    tool_calls: list[ChatMessageToolCallStreamDelta] | None = None
    token_usage: TokenUsage | None = None


def agglomerate_stream_deltas(
    stream_deltas: Sequence[ChatMessageStreamDelta], role: MessageRole = MessageRole.ASSISTANT
) -> ChatMessage:
    """The message that the pieces make.

    Raises:
        ValueError: a piece of a call does not say which call it is of.
    """
    calls: dict[int, ChatMessageToolCall] = {}
    usages = [delta.token_usage for delta in stream_deltas if delta.token_usage]
    for piece in (piece for delta in stream_deltas for piece in delta.tool_calls or ()):
        if piece.index is None:
            raise ValueError(f"Tool call index is not provided in tool delta: {piece}")
        call = calls.setdefault(
            piece.index, ChatMessageToolCall(ChatMessageToolCallFunction("", ""), piece.id or "", "function")
        )
        call.id = piece.id or call.id
        if piece.function is not None:
            call.function.name = piece.function.name or call.function.name
            call.function.arguments += piece.function.arguments or ""
    return ChatMessage(
        role,
        "".join(delta.content or "" for delta in stream_deltas),
        list(calls.values()),
        token_usage=TokenUsage(sum(u.input_tokens for u in usages), sum(u.output_tokens for u in usages)),
    )


def parse_json_if_needed(arguments: Any) -> Any:  # Any: as a model gives them
    """Arguments that came as the text of a JSON value; others as they are."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def text_of(content: object) -> str:
    """The text of a message's content, which may be in parts."""
    if isinstance(content, list):
        parts = cast("list[object]", content)
        return "\n".join(str(cast("Mapping[str, Any]", p).get("text", "")) for p in parts if isinstance(p, Mapping))
    return "" if content is None else str(content)


def to_chat(messages: Sequence[Message], pictures: Mapping[Image, object]) -> list[ChatMessage]:
    """wherry's messages as a user's own model gets them.

    Args:
        messages: of a request.
        pictures: those of the messages, as the program gave them; others are made of their bytes.
    """
    out: list[ChatMessage] = []
    for message in messages:
        if message.role == "tool":
            out.append(_said(MessageRole.TOOL_RESPONSE, f"Observation:\n{message.content}"))
            continue
        if message.content or not message.tool_calls:
            said = _said(MessageRole(message.role), message.content)
            if message.images and isinstance(said.content, list):
                shown = (pictures.get(image) or picture_of(image.data) for image in message.images)
                said.content += [{"type": "image", "image": image} for image in shown]
            out.append(said)
        if message.tool_calls:
            calls = [wire_call(call.name, dict(call.arguments), call.id) for call in message.tool_calls]
            out.append(_said(MessageRole.TOOL_CALL, f"Calling tools:\n{calls}"))
    return out


def from_chat(messages: Sequence[ChatMessage | Mapping[str, Any]]) -> list[Message]:
    """Messages of a user's, for a model of wherry's."""
    roles = {"tool-call": "assistant", "tool-response": "user"}
    out: list[Message] = []
    for given in messages:
        message = given if isinstance(given, ChatMessage) else ChatMessage.from_dict(given)
        role = roles.get(MessageRole(message.role).value, MessageRole(message.role).value)
        text = text_of(message.content)
        if out and out[-1].role == role:  # many chat templates refuse two in a row
            out[-1] = Message(out[-1].role, f"{out[-1].content}\n{text}")
        else:
            out.append(Message(cast("Any", role), text))
    return out


def reply_to_chat(reply: ModelReply) -> ChatMessage:
    """What a model of wherry's answered."""
    calls = [
        ChatMessageToolCall(ChatMessageToolCallFunction(dict(call.arguments), call.name), call.id, "function")
        for call in reply.tool_calls
    ]
    usage = None if reply.usage is None else TokenUsage(reply.usage.input_tokens, reply.usage.output_tokens)
    return ChatMessage(MessageRole.ASSISTANT, reply.text, calls or None, raw=reply, token_usage=usage)


def chat_to_reply(message: object, one_argument: Mapping[str, str]) -> ModelReply:
    """What a user's own model answered.

    Args:
        message: a `ChatMessage`, something of its shape, or a text.
        one_argument: tool -> the name of its only argument, for calls that give the bare value.
    """
    if isinstance(message, str):
        return ModelReply(message)
    said = cast("ChatMessage", message)
    calls: list[ToolCall] = []
    for number, given in enumerate(said.tool_calls or ()):
        call = _tool_call(given)
        arguments = parse_json_if_needed(call.function.arguments)
        name = call.function.name
        if arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict):
            arguments = {one_argument.get(name, "value"): arguments}
        calls.append(ToolCall(call.id or f"call_{number}", name, cast("dict[str, Any]", arguments)))
    used = getattr(said, "token_usage", None)
    usage = None
    if isinstance(used, TokenUsage):
        usage = Usage(requests=1, input_tokens=used.input_tokens, output_tokens=used.output_tokens, usd=None)
    return ModelReply(text_of(said.content), tool_calls=calls, usage=usage)


def wire_call(name: str, arguments: object, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def new_call(name: str, arguments: object) -> ChatMessageToolCall:
    return ChatMessageToolCall(ChatMessageToolCallFunction(arguments, name), str(uuid.uuid4()), "function")


def _said(role: MessageRole, text: str) -> ChatMessage:
    return ChatMessage(role, [{"type": "text", "text": text}])


def _tool_call(given: object) -> ChatMessageToolCall:
    if isinstance(given, ChatMessageToolCall):
        return given
    raw = _mapping(given)
    function = _mapping(raw["function"])
    return ChatMessageToolCall(
        ChatMessageToolCallFunction(function["arguments"], function["name"], function.get("description")),
        raw["id"],
        raw.get("type", "function"),
    )


def _mapping(given: object) -> Mapping[str, Any]:
    """A record of a server's library as a mapping."""
    if isinstance(given, Mapping):
        return cast("Mapping[str, Any]", given)
    for name in ("model_dump", "dict"):
        if callable(dump := getattr(given, name, None)):
            return cast("Mapping[str, Any]", dump())
    return cast("Mapping[str, Any]", vars(given))
