"""What models are by smolagents' interface: `generate`, and a client of wherry's below it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, cast  # Any: parameters of servers

from wherry.agents import portal
from wherry.compat.smolagents.messages import (
    ChatMessage,
    ChatMessageStreamDelta,
    ChatMessageToolCall,
    ChatMessageToolCallStreamDelta,
    MessageRole,
    from_chat,
    new_call,
    parse_json_if_needed,
    reply_to_chat,
    text_of,
)
from wherry.compat.smolagents.monitoring import TokenUsage
from wherry.compat.smolagents.pieces import streamed
from wherry.compat.smolagents.preparing import (
    get_clean_message_list,
    remove_content_after_stop_sequences,
    supports_stop_parameter,
    tool_role_conversions,
)
from wherry.compat.smolagents.text import parse_json_blob
from wherry.messages import ToolSchema
from wherry.models import Model as CoreModel
from wherry.models import ModelReply, ModelRequest, RateLimited


class _Remove:
    def __repr__(self) -> str:
        return "REMOVE_PARAMETER"


REMOVE_PARAMETER = _Remove()
"""As a keyword argument's value: leave the parameter out."""

SECRETS = frozenset({"api_key", "token"})


class Model:
    """Base of models. A subclass of your own has `generate(messages, stop_sequences=None, **kwargs) -> ChatMessage`.

    `window`, its context length in tokens, is what its requests are held to; 8,192 are assumed without it.
    """

    has_core: ClassVar[bool] = False
    kept: ClassVar[Sequence[str]] = ("flatten_messages_as_text",)
    """Attributes that `to_dict` gives where they say something, besides what a server takes."""

    def __init__(
        self,
        flatten_messages_as_text: bool = False,
        tool_name_key: str = "name",
        tool_arguments_key: str = "arguments",
        model_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.flatten_messages_as_text = flatten_messages_as_text
        self.tool_name_key = tool_name_key
        self.tool_arguments_key = tool_arguments_key
        self.model_id = model_id
        self.kwargs = kwargs

    generate: Callable[..., ChatMessage]
    """Asks the model; written by subclasses."""

    @property
    def supports_stop_parameter(self) -> bool:
        return supports_stop_parameter(self.model_id or "")

    def _prepare_completion_kwargs(
        self,
        messages: Sequence[ChatMessage | Mapping[str, Any]],
        stop_sequences: list[str] | None = None,
        response_format: Any = None,
        tools_to_call_from: list[Any] | None = None,
        custom_role_conversions: Mapping[str, str] | None = None,
        convert_images_to_image_urls: bool = False,
        tool_choice: str | dict[str, Any] | None = "required",
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The parameters of a request, for a `generate` of a program's own. The model's own come last, and stay."""
        flatten = kwargs.pop("flatten_messages_as_text", self.flatten_messages_as_text)
        roles = custom_role_conversions or tool_role_conversions
        made: dict[str, Any] = {
            "messages": get_clean_message_list(messages, roles, convert_images_to_image_urls, flatten)
        }
        if stop_sequences is not None and self.supports_stop_parameter:
            made["stop"] = stop_sequences
        if response_format is not None:
            made["response_format"] = response_format
        if tools_to_call_from:
            made["tools"] = [get_tool_json_schema(tool) for tool in tools_to_call_from]
            if tool_choice is not None:
                made["tool_choice"] = tool_choice
        made |= {**kwargs, **self.kwargs}
        return {key: value for key, value in made.items() if value is not REMOVE_PARAMETER}

    def __call__(self, *args: Any, **kwargs: Any) -> ChatMessage:
        return self.generate(*args, **kwargs)

    def parse_tool_calls(self, message: ChatMessage) -> ChatMessage:
        """The message with the call that its text holds as JSON.

        Raises:
            ValueError: it holds none.
        """
        message.role = MessageRole.ASSISTANT
        if not message.tool_calls:
            if message.content is None:
                raise ValueError("Message contains no content and no tool calls")
            found, _ = parse_json_blob(text_of(message.content))
            name_key = getattr(self, "tool_name_key", "name")
            if name_key not in found:
                raise ValueError(f"Tool call needs to have a key '{name_key}'. Got keys: {list(found)} instead")
            arguments = found.get(getattr(self, "tool_arguments_key", "arguments"))
            message.tool_calls = [new_call(str(found[name_key]), parse_json_if_needed(arguments))]
        for call in message.tool_calls:
            call.function.arguments = parse_json_if_needed(call.function.arguments)
        return message

    def to_dict(self) -> dict[str, Any]:
        """The arguments that make such a model. Keys are left out: they have no place in files."""
        given = {key: value for key, value in self.kwargs.items() if key not in SECRETS}
        known = {key: getattr(self, key, None) for key in self.kept}
        return {**given, **{key: value for key, value in known.items() if value}, "model_id": self.model_id}

    @classmethod
    def from_dict(cls, model_dictionary: Mapping[str, Any]) -> Self:
        return cls(**model_dictionary)


class ApiModel(Model):
    """A model behind a server."""

    has_core: ClassVar[bool] = True
    kept: ClassVar[Sequence[str]] = (*Model.kept, "custom_role_conversions", "requests_per_minute", "window")
    client_call: ClassVar[str] = "chat.completions.create"
    """What a client of a program's own is asked by."""

    def __init__(
        self,
        model_id: str,
        custom_role_conversions: Mapping[str, str] | None = None,
        client: Any = None,
        requests_per_minute: float | None = None,
        retry: bool = True,
        window: int | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: the server's name for the model.
            custom_role_conversions: not needed: roles are made such that every chat template takes them.
            client: asked in place of wherry's own, by `client_call`: then its failures, time limits and windows are
                its own too. A subclass may have a method `create_client` that makes it.
            requests_per_minute: most that are made.
            retry: not needed: what is tried again, and when, follows from the kind of failure.
            window: the context length in tokens, where the server does not say.
            kwargs: `temperature`, `max_tokens`, and whatever else the server takes.
        """
        keys = ("flatten_messages_as_text", "tool_name_key", "tool_arguments_key")
        own = {key: kwargs.pop(key) for key in keys if key in kwargs}
        super().__init__(model_id=model_id, **own, **kwargs)
        self.client = self.create_client() if client is None else client
        self.custom_role_conversions = custom_role_conversions
        self.requests_per_minute = requests_per_minute
        self.window = window
        self._core: CoreModel | None = None

    def create_client(self) -> Any:
        """A client of a subclass's own; None: wherry's is asked."""
        return None

    def make_core(self, options: dict[str, Any]) -> CoreModel:
        """The client; `options` are those that all of wherry's have."""
        raise TypeError(f"{type(self).__name__} has neither a client nor a `generate` of its own")

    def core(self) -> CoreModel | None:
        """wherry's model below; None where `generate` is asked instead: a subclass's own, or for a client's sake."""
        if type(self).generate is not ApiModel.generate or self.client is not None:
            return None
        if self._core is None:
            made = self.make_core(self._options())
            rate = self.requests_per_minute
            self._core = made if rate is None else RateLimited(made, rpm=max(1, int(rate)))
        return self._core

    def _options(self) -> dict[str, Any]:
        given = {key: value for key, value in self.kwargs.items() if value is not REMOVE_PARAMETER}
        most = given.pop("max_tokens", None) or given.pop("max_completion_tokens", None)
        options: dict[str, Any] = {"settings": given}
        if most is not None:
            options["max_output"] = most
        if self.window is not None:
            options["window"] = self.window
        if (timeout := given.pop("timeout", None)) is not None:
            options["timeout"] = timeout
        return options

    def generate(
        self,
        messages: list[ChatMessage],
        stop_sequences: list[str] | None = None,
        response_format: Any = None,
        tools_to_call_from: list[Any] | None = None,
        **kwargs: Any,
    ) -> ChatMessage:
        """Ask the model, outside of any agent.

        Raises:
            ModelError: the server failed.
        """
        if self.client is not None:
            return self._by_client(messages, stop_sequences, response_format, tools_to_call_from, kwargs)
        core = self.core() or self.make_core(self._options())
        stops = stop_sequences if self.supports_stop_parameter else None
        request = _request(messages, stops, response_format, tools_to_call_from, kwargs)

        async def ask() -> ModelReply:
            if (prepare := getattr(core, "prepare", None)) is not None:
                await prepare()
            return await core.complete(request)

        said = reply_to_chat(portal.call(ask))
        if stops is None and isinstance(said.content, str):
            said.content = remove_content_after_stop_sequences(said.content, stop_sequences)
        return said

    def _by_client(
        self,
        messages: list[ChatMessage],
        stop_sequences: list[str] | None,
        response_format: Any,
        tools_to_call_from: list[Any] | None,
        kwargs: dict[str, Any],
    ) -> ChatMessage:
        kwargs.setdefault("model", self.model_id)
        ask: Any = self.client
        for name in self.client_call.split("."):
            ask = getattr(ask, name)
        answer = ask(
            **self._prepare_completion_kwargs(
                messages,
                stop_sequences,
                response_format,
                tools_to_call_from,
                self.custom_role_conversions,
                convert_images_to_image_urls=True,
                **kwargs,
            )
        )
        said, used = answer.choices[0].message, getattr(answer, "usage", None)
        text = said.content
        if not self.supports_stop_parameter:
            text = remove_content_after_stop_sequences(text, stop_sequences)
        usage = None if used is None else TokenUsage(used.prompt_tokens, used.completion_tokens)
        return ChatMessage(MessageRole.ASSISTANT, text, said.tool_calls or None, raw=answer, token_usage=usage)

    def generate_stream(
        self,
        messages: list[ChatMessage],
        stop_sequences: list[str] | None = None,
        response_format: Any = None,
        tools_to_call_from: list[Any] | None = None,
        **kwargs: Any,
    ) -> Generator[ChatMessageStreamDelta]:
        """Ask the model, outside of any agent, and give its reply as it comes; calls and usage come at its end.

        A `client`, or a `generate` of a subclass, is asked for its reply in one piece.

        Raises:
            ModelError: the server failed.
        """
        core = self.core()
        said: ChatMessage | None = None
        if core is None:
            given = {
                "stop_sequences": stop_sequences,
                "response_format": response_format,
                "tools_to_call_from": tools_to_call_from,
            }
            said = self.generate(messages, **{key: it for key, it in given.items() if it is not None}, **kwargs)
            yield ChatMessageStreamDelta(text_of(said.content))
        else:
            stops = stop_sequences if self.supports_stop_parameter else None
            request = _request(messages, stops, response_format, tools_to_call_from, kwargs)
            for piece in streamed(core, request):
                if piece.text:
                    yield ChatMessageStreamDelta(piece.text)
                if piece.reply is not None:
                    said = reply_to_chat(piece.reply)
        if said is not None:
            calls = [_whole(number, call) for number, call in enumerate(said.tool_calls or ())]
            yield ChatMessageStreamDelta("", calls or None, said.token_usage)


def _whole(number: int, call: ChatMessageToolCall) -> ChatMessageToolCallStreamDelta:
    """A call in one piece; arguments are a text in pieces."""
    given: Any = call.function.arguments
    function = replace(call.function, arguments=given if isinstance(given, str) else json.dumps(given))
    return ChatMessageToolCallStreamDelta(number, call.id, call.type, function)


def get_tool_json_schema(tool: Any) -> dict[str, Any]:
    """A tool as a server's native interface takes it."""
    properties: dict[str, Any] = {}
    for name, body in cast("Mapping[str, Mapping[str, Any]]", tool.inputs or {}).items():
        kind = "string" if body.get("type") == "any" else body.get("type", "string")
        properties[name] = {**body} if "anyOf" in body else {**body, "type": kind}
    required = [name for name, body in properties.items() if not body.get("nullable")]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _request(
    messages: Sequence[ChatMessage | Mapping[str, Any]],
    stop_sequences: Sequence[str] | None,
    response_format: Any,
    tools: Sequence[Any] | None,
    settings: Mapping[str, Any],
) -> ModelRequest:
    schemas: list[ToolSchema] = []
    for one in tools or ():
        function = get_tool_json_schema(one)["function"]
        schemas.append(ToolSchema(function["name"], function["description"], function["parameters"]))
    further = dict(settings)
    most = further.pop("max_tokens", None)
    if stop_sequences:
        further["stop"] = list(stop_sequences)
    return ModelRequest(
        from_chat(messages), schemas, max_output=most, settings=further, response_format=schema_of(response_format)
    )


def schema_of(response_format: Any) -> Mapping[str, Any] | None:
    """The JSON Schema in a `response_format` of OpenAI's."""
    if not isinstance(response_format, Mapping):
        return None
    wrapped = cast("Mapping[str, Any]", response_format)
    named: Mapping[str, Any] = wrapped.get("json_schema") or wrapped
    return named.get("schema", named)
