"""Models by the names that smolagents has for them. All of them are clients of wherry's below."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, cast  # Any: parameters of servers

from wherry.agents import portal
from wherry.compat.smolagents.messages import (
    ChatMessage,
    ChatMessageStreamDelta,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    ChatMessageToolCallStreamDelta,
    MessageRole,
    agglomerate_stream_deltas,
    from_chat,
    new_call,
    parse_json_if_needed,
    reply_to_chat,
    text_of,
)
from wherry.compat.smolagents.monitoring import TokenUsage
from wherry.compat.smolagents.text import parse_json_blob
from wherry.errors import ConfigurationError, MissingExtra
from wherry.messages import ToolSchema
from wherry.models import Model as CoreModel
from wherry.models import ModelReply, ModelRequest, RateLimited
from wherry.models.openai import OpenAIModel as CoreOpenAIModel

__all__ = [
    "MODEL_REGISTRY",
    "REMOVE_PARAMETER",
    "ApiModel",
    "AzureOpenAIModel",
    "AzureOpenAIServerModel",
    "ChatMessage",
    "ChatMessageStreamDelta",
    "ChatMessageToolCall",
    "ChatMessageToolCallFunction",
    "ChatMessageToolCallStreamDelta",
    "InferenceClientModel",
    "LiteLLMModel",
    "MessageRole",
    "Model",
    "OpenAIModel",
    "OpenAIServerModel",
    "TokenUsage",
    "TransformersModel",
    "agglomerate_stream_deltas",
    "get_tool_json_schema",
    "parse_json_if_needed",
]

HUB = "https://router.huggingface.co/v1"
"""The OpenAI-compatible route of Hugging Face's inference providers."""


class _Remove:
    def __repr__(self) -> str:
        return "REMOVE_PARAMETER"


REMOVE_PARAMETER = _Remove()
"""As a keyword argument's value: leave the parameter out."""


class Model:
    """Base of models. A subclass of your own has `generate(messages, stop_sequences=None, **kwargs) -> ChatMessage`.

    `window`, its context length in tokens, is what its requests are held to; 8,192 are assumed without it.
    """

    has_core: ClassVar[bool] = False

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
        """As JSON, without keys."""
        return {**self.kwargs, "model_id": self.model_id}

    @classmethod
    def from_dict(cls, model_dictionary: Mapping[str, Any]) -> Model:
        return cls(**model_dictionary)


class ApiModel(Model):
    """A model behind a server."""

    has_core: ClassVar[bool] = True

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
            client: not taken: wherry has its own.
            requests_per_minute: most that are made.
            retry: not needed: what is tried again, and when, follows from the kind of failure.
            window: the context length in tokens, where the server does not say.
            kwargs: `temperature`, `max_tokens`, and whatever else the server takes.

        Raises:
            ConfigurationError: a `client` was given.
        """
        keys = ("flatten_messages_as_text", "tool_name_key", "tool_arguments_key")
        own = {key: kwargs.pop(key) for key in keys if key in kwargs}
        super().__init__(model_id=model_id, **own, **kwargs)
        if client is not None:
            raise ConfigurationError("wherry makes its own clients", hint="give api_base and api_key instead of client")
        self.custom_role_conversions = custom_role_conversions
        self.requests_per_minute = requests_per_minute
        self.window = window
        self._core: CoreModel | None = None

    def make_core(self, options: dict[str, Any]) -> CoreModel:
        """The client; `options` are those that all of wherry's have."""
        raise TypeError(f"{type(self).__name__} has neither a client nor a `generate` of its own")

    def core(self) -> CoreModel | None:
        """wherry's model below; None where a subclass has a `generate` of its own, which is asked instead."""
        if type(self).generate is not ApiModel.generate:
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
        core = self.core() or self.make_core(self._options())
        request = _request(messages, stop_sequences, response_format, tools_to_call_from, kwargs)

        async def ask() -> ModelReply:
            if (prepare := getattr(core, "prepare", None)) is not None:
                await prepare()
            return await core.complete(request)

        return reply_to_chat(portal.call(ask))

    def generate_stream(self, messages: list[ChatMessage], **kwargs: Any) -> Generator[ChatMessageStreamDelta]:
        """The reply in one piece. Agents stream by `stream_outputs=True`."""
        said = self.generate(messages, **kwargs)
        calls = [
            ChatMessageToolCallStreamDelta(number, call.id, call.type, call.function)
            for number, call in enumerate(said.tool_calls or ())
        ]
        yield ChatMessageStreamDelta(text_of(said.content), calls or None, said.token_usage)


class OpenAIModel(ApiModel):
    """OpenAI, and every server that speaks its chat completions."""

    def __init__(
        self,
        model_id: str,
        api_base: str | None = None,
        api_key: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: the server's name for the model.
            api_base: up to and with `/v1`; None: `$OPENAI_BASE_URL`, else OpenAI.
            api_key: None: `$OPENAI_API_KEY`.
            organization: of OpenAI's.
            project: of OpenAI's.
            client_kwargs: `default_headers` and `timeout` are taken from it.
            kwargs: those of `ApiModel`.
        """
        super().__init__(model_id, **kwargs)
        self.api_base, self.organization, self.project = api_base, organization, project
        self._api_key = api_key
        self._client_kwargs = dict(client_kwargs or {})

    def make_core(self, options: dict[str, Any]) -> CoreModel:
        headers: dict[str, str] = dict(self._client_kwargs.get("default_headers") or {})
        for header, value in (("OpenAI-Organization", self.organization), ("OpenAI-Project", self.project)):
            if value:
                headers[header] = value
        if "timeout" in self._client_kwargs:
            options.setdefault("timeout", float(self._client_kwargs["timeout"]))
        base = self._client_kwargs.get("base_url") or self.api_base
        return CoreOpenAIModel(
            self.model_id or "", base_url=base, api_key=self._api_key, headers=headers, **cast("Any", options)
        )


OpenAIServerModel = OpenAIModel


class AzureOpenAIModel(OpenAIModel):
    """A deployment of Azure OpenAI."""

    def __init__(
        self,
        model_id: str,
        azure_endpoint: str | None = None,
        api_key: str | None = None,
        api_version: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: the deployment's name.
            azure_endpoint: `https://NAME.openai.azure.com`; None: `$AZURE_OPENAI_ENDPOINT`.
            api_key: None: `$AZURE_OPENAI_API_KEY`.
            api_version: not needed by the route of today, which has no versions.
            client_kwargs: as of `OpenAIModel`.
            kwargs: those of `ApiModel`.

        Raises:
            ConfigurationError: there is no endpoint.
        """
        import os

        endpoint = azure_endpoint or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not endpoint:
            raise ConfigurationError("no endpoint of Azure's", hint="azure_endpoint=..., or $AZURE_OPENAI_ENDPOINT")
        self.azure_endpoint, self.api_version = endpoint, api_version
        key = api_key or os.environ.get("AZURE_OPENAI_API_KEY")
        base = f"{endpoint.rstrip('/')}/openai/v1"
        super().__init__(model_id, base, key, client_kwargs=client_kwargs, **kwargs)


AzureOpenAIServerModel = AzureOpenAIModel


class InferenceClientModel(OpenAIModel):
    """A model of Hugging Face's inference providers, by their OpenAI-compatible route; or any server at `base_url`."""

    def __init__(
        self,
        model_id: str = "Qwen/Qwen3-Next-80B-A3B-Thinking",
        provider: str | None = None,
        token: str | None = None,
        timeout: float = 120,
        client_kwargs: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        bill_to: str | None = None,
        base_url: str | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: as on the hub; or the address of a server.
            provider: whose; the route's own choice if it is None.
            token: None: `$HF_TOKEN`.
            timeout: seconds for a request.
            client_kwargs: as of `OpenAIModel`.
            api_key: another word for `token`.
            bill_to: who pays.
            base_url: of a server that is none of Hugging Face's.
            kwargs: those of `ApiModel`.

        Raises:
            ValueError: both `token` and `api_key` were given.
        """
        import os

        if token is not None and api_key is not None:
            raise ValueError("give `token` or `api_key`: they are the same")
        self.provider = provider
        if re.match(r"https?://", model_id) and base_url is None:
            base_url, model_id = model_id, ""
        name = f"{model_id}:{provider}" if provider and base_url is None and model_id else model_id
        headers = {"X-HF-Bill-To": bill_to} if bill_to else {}
        options = {**(client_kwargs or {})}
        options["default_headers"] = {**headers, **options.get("default_headers", {})}
        key = token or api_key or os.environ.get("HF_TOKEN")
        super().__init__(name, base_url or HUB, key, client_kwargs=options, timeout=timeout, **kwargs)


class LiteLLMModel(ApiModel):
    """Any provider that LiteLLM knows; where it is not installed, `openai/...` with or without an `api_base`."""

    def __init__(
        self,
        model_id: str | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        custom_role_conversions: Mapping[str, str] | None = None,
        flatten_messages_as_text: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: `provider/name`.
            api_base: the address of a server or gateway.
            api_key: None: the provider's own environment variable.
            custom_role_conversions: not needed.
            flatten_messages_as_text: not needed.
            kwargs: those of `ApiModel`; `num_ctx` is the window of an Ollama model.
        """
        window = kwargs.pop("window", None) or kwargs.get("num_ctx")
        super().__init__(model_id or "openai/gpt-4o-mini", custom_role_conversions, window=window, **kwargs)
        self.api_base, self._api_key = api_base, api_key

    def make_core(self, options: dict[str, Any]) -> CoreModel:
        from wherry.models.litellm import LiteLLMModel as CoreLiteLLMModel

        name = self.model_id or ""
        if "/" not in name:  # LiteLLM knows these by themselves
            own = {"claude": "anthropic", "gemini": "gemini", "mistral": "mistral", "command": "cohere"}
            name = f"{own.get(name.split('-')[0], 'openai')}/{name}"
        provider, _, rest = name.partition("/")
        if find_spec("litellm") is None and provider == "openai":
            return CoreOpenAIModel(rest, base_url=self.api_base, api_key=self._api_key, **cast("Any", options))
        return CoreLiteLLMModel(name, api_base=self.api_base, api_key=self._api_key, **cast("Any", options))


class TransformersModel(Model):
    """A model of the `transformers` package, in this process.

    Raises:
        MissingExtra: transformers is not installed.
    """

    def __init__(self, model_id: str | None = None, max_new_tokens: int = 1024, **kwargs: Any) -> None:
        if find_spec("transformers") is None:
            raise MissingExtra("TransformersModel (the packages transformers and torch)", "local")
        transformers: Any = __import__("transformers")
        own = {key: kwargs.pop(key) for key in ("device_map", "torch_dtype", "trust_remote_code") if key in kwargs}
        super().__init__(model_id=model_id, **kwargs)
        self.max_new_tokens = max_new_tokens
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model_id)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(model_id, **own)
        self.window: int | None = getattr(self.model.config, "max_position_embeddings", None)

    def generate(
        self,
        messages: list[ChatMessage],
        stop_sequences: list[str] | None = None,
        response_format: Any = None,
        tools_to_call_from: list[Any] | None = None,
        **kwargs: Any,
    ) -> ChatMessage:
        said = [{"role": message.role, "content": message.content} for message in from_chat(messages)]
        tools = [get_tool_json_schema(one) for one in tools_to_call_from] if tools_to_call_from else None
        prompt = self.tokenizer.apply_chat_template(
            said, tools=tools, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        options = {"max_new_tokens": self.max_new_tokens, **self.kwargs, **kwargs}
        out = self.model.generate(**prompt, **options)
        given = prompt["input_ids"].shape[1]
        text: str = self.tokenizer.decode(out[0, given:], skip_special_tokens=True)
        for stop in stop_sequences or ():
            text = text.split(stop)[0]
        used = TokenUsage(int(given), len(out[0]) - int(given))
        return ChatMessage(MessageRole.ASSISTANT, text, token_usage=used)


MODEL_REGISTRY: dict[str, type[Model]] = {
    kind.__name__: kind
    for kind in (OpenAIModel, AzureOpenAIModel, InferenceClientModel, LiteLLMModel, TransformersModel)
}
MODEL_REGISTRY["OpenAIServerModel"] = OpenAIModel


def get_tool_json_schema(tool: Any) -> dict[str, Any]:
    """A tool as a server's native interface takes it."""
    properties: dict[str, Any] = {}
    for name, body in cast("Mapping[str, Mapping[str, Any]]", tool.inputs or {}).items():
        kind = "string" if body.get("type") == "any" else body.get("type", "string")
        properties[name] = {**body, "type": kind}
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
