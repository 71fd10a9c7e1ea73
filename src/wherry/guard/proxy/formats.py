"""What of the clients' interfaces bounding and accounting have to know. All else of a body is passed as it came."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from wherry.guard.proxy.refusals import Refusal, Shape
from wherry.messages import Message, Usage
from wherry.models.chat_completions import Draft, read_reply

Body = dict[str, Any]  # Any: JSON of clients and servers


@dataclass(frozen=True, slots=True)
class Said:
    """What a server answered, read for the books; whatever it left out is None."""

    message: Message | None = None
    usage: Usage | None = None
    finish: str | None = None
    model: str | None = None


class Format(Protocol):
    """One interface: where it is, how a conversation stands in its bodies, how a reply is told."""

    @property
    def path(self) -> str:
        """Below the upstream's `/v1`."""
        ...

    @property
    def shape(self) -> Shape:
        """Of its errors."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """Parameters that bound a reply's tokens: the first is sent where the client sent none, to OpenAI the last."""
        ...

    @property
    def style(self) -> Literal["openai", "anthropic"]:
        """How `conversation` gives messages."""
        ...

    def conversation(self, body: Body) -> tuple[list[Body], object]:
        """The messages of a request, and the system prompt where it stands apart from them.

        Raises:
            Refusal: There are none.
        """
        ...

    def with_conversation(self, body: Body, messages: Sequence[Body], system: object) -> Body:
        """The fields of the request that change when it is to have these messages."""
        ...

    def tools(self, body: Body) -> list[Body]:
        """Whatever else of a request its model reads: schemas."""
        ...

    def defaults(self, body: Body) -> Body:
        """The fields that a request gets where it does not have them."""
        ...

    def usage_option(self, body: Body) -> Body:
        """The fields that make a stream tell what it took, where it would not."""
        ...

    def whole(self, answer: Body) -> Said:
        """What a whole reply says."""
        ...

    def stream(self, events: Iterable[str]) -> Said:
        """What the events of a stream said."""
        ...


class ChatFormat:
    """OpenAI's chat completions."""

    path = "chat/completions"
    shape: Shape = "openai"
    style: Literal["openai", "anthropic"] = "openai"
    output_names = ("max_tokens", "max_completion_tokens")

    def conversation(self, body: Body) -> tuple[list[Body], object]:
        return messages_in(body, "messages"), None

    def with_conversation(self, body: Body, messages: Sequence[Body], system: object) -> Body:
        return {"messages": list(messages)}

    def tools(self, body: Body) -> list[Body]:
        tools = dicts_in(body.get("tools")) + dicts_in(body.get("functions"))
        wanted = body.get("response_format")
        if isinstance(wanted, dict) and (schema := cast("Body", wanted).get("json_schema")):
            tools.append({"name": "reply", "parameters": schema})
        return tools

    def defaults(self, body: Body) -> Body:
        return {}

    def usage_option(self, body: Body) -> Body:
        options = body.get("stream_options")
        options = cast("Body", options) if isinstance(options, dict) else {}
        return {} if options.get("include_usage") else {"stream_options": {**options, "include_usage": True}}

    def whole(self, answer: Body) -> Said:
        reply = read_reply(answer)
        return Said(reply.message(), reply.usage, reply.finish_reason, reply.model)

    def stream(self, events: Iterable[str]) -> Said:
        draft = Draft()
        for event in parsed(events):
            draft.add_chunk(event)
        reply = draft.reply()
        return Said(None if draft.is_empty else reply.message(), reply.usage, reply.finish_reason, reply.model)


def messages_in(body: Body, name: str) -> list[Body]:
    """The list of objects that a request has under this name.

    Raises:
        Refusal: It has none.
    """
    found = body.get(name)
    if not isinstance(found, list) or not found:
        raise Refusal(400, f"`{name}` has to be a list of at least one message", code="invalid_messages")
    messages = dicts_in(cast("object", found))
    if len(messages) != len(cast("list[object]", found)):
        raise Refusal(400, f"`{name}` has something in it that is no object", code="invalid_messages")
    return messages


def dicts_in(value: object) -> list[Body]:
    """The objects in a list; none where it is no list."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Body", item) for item in items if isinstance(item, dict)]


def parsed(events: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    """The events of a stream that are JSON objects."""
    for data in events:
        if data[:1] != "{":
            continue
        try:
            event: object = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield cast("Body", event)


def wanted_output(format_: Format, body: Body) -> tuple[str | None, int | None]:
    """The parameter by which a request bounds its reply, and the bound; None where it has none worth the name."""
    for name in format_.output_names:
        if name in body:
            value = body[name]
            good = isinstance(value, int) and not isinstance(value, bool) and value > 0
            return name, cast("int", value) if good else None
    return None, None


CHAT = ChatFormat()
