"""Models behind servers, and in this process, by the names that smolagents has for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, cast  # Any: parameters of servers

from wherry.compat.smolagents.api_model import SECRETS, ApiModel, Model, get_tool_json_schema
from wherry.compat.smolagents.messages import (
    ChatMessage,
    MessageRole,
    from_chat,
)
from wherry.compat.smolagents.monitoring import TokenUsage
from wherry.errors import ConfigurationError, MissingExtra
from wherry.models import Fallback
from wherry.models import Model as CoreModel
from wherry.models.openai import OpenAIModel as CoreOpenAIModel

HUB = "https://router.huggingface.co/v1"
"""The OpenAI-compatible route of Hugging Face's inference providers."""


class OpenAIModel(ApiModel):
    """OpenAI, and every server that speaks its chat completions."""

    kept: ClassVar[Sequence[str]] = (*ApiModel.kept, "api_base", "organization", "project")

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

    kept: ClassVar[Sequence[str]] = (*ApiModel.kept, "azure_endpoint", "api_version", "organization", "project")

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

    client_call: ClassVar[str] = "chat_completion"
    kept: ClassVar[Sequence[str]] = (*ApiModel.kept, "provider", "bill_to", "base_url")

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
            raise ValueError("Received both `token` and `api_key` arguments. They are the same: give one of them.")
        self.provider, self.bill_to = provider, bill_to
        if re.match(r"https?://", model_id) and base_url is None:
            base_url, model_id = model_id, ""
        self.base_url, self._named = base_url, model_id
        name = f"{model_id}:{provider}" if provider and base_url is None and model_id else model_id
        headers = {"X-HF-Bill-To": bill_to} if bill_to else {}
        options = {**(client_kwargs or {})}
        options["default_headers"] = {**headers, **options.get("default_headers", {})}
        key = token or api_key or os.environ.get("HF_TOKEN")
        super().__init__(name, base_url or HUB, key, client_kwargs=options, timeout=timeout, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "model_id": self._named}


class LiteLLMModel(ApiModel):
    """Any provider that LiteLLM knows; where it is not installed, `openai/...` with or without an `api_base`."""

    client_call: ClassVar[str] = "completion"
    kept: ClassVar[Sequence[str]] = (*ApiModel.kept, "api_base")

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
            flatten_messages_as_text: of a `client`: contents as texts, not as parts.
            kwargs: those of `ApiModel`; `num_ctx` is the window of an Ollama model.
        """
        window = kwargs.pop("window", None) or kwargs.get("num_ctx")
        if flatten_messages_as_text is None:
            flatten_messages_as_text = (model_id or "").startswith(("ollama", "groq", "cerebras"))
        kwargs["flatten_messages_as_text"] = flatten_messages_as_text
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


class LiteLLMRouterModel(LiteLLMModel):
    """Several of LiteLLM's models under one name: the first is asked, and the next one when that fails."""

    def __init__(
        self,
        model_id: str,
        model_list: Sequence[Mapping[str, Any]],
        client_kwargs: Mapping[str, Any] | None = None,
        custom_role_conversions: Mapping[str, str] | None = None,
        flatten_messages_as_text: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: the name of the group.
            model_list: as LiteLLM's router has it: `{"model_name": ..., "litellm_params": {"model": ..., ...}}`.
            client_kwargs: not needed: failures decide who is asked.
            custom_role_conversions: not needed.
            flatten_messages_as_text: as of `LiteLLMModel`.
            kwargs: those of `ApiModel`.

        Raises:
            ConfigurationError: no model of the list is of that group.
        """
        self.model_list = [one for one in model_list if one["model_name"] == model_id]
        if not self.model_list:
            known = sorted({str(one["model_name"]) for one in model_list})
            raise ConfigurationError(f"model_list has no {model_id!r}", hint=f"it has {', '.join(known) or 'nothing'}")
        super().__init__(model_id, None, None, custom_role_conversions, flatten_messages_as_text, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        listed = [
            {**one, "litellm_params": {key: it for key, it in one["litellm_params"].items() if key not in SECRETS}}
            for one in self.model_list
        ]
        return {**super().to_dict(), "model_list": listed}

    def make_core(self, options: dict[str, Any]) -> CoreModel:
        made: list[CoreModel] = []
        for one in self.model_list:
            given = dict(one["litellm_params"])
            name, base, key = given.pop("model"), given.pop("api_base", None), given.pop("api_key", None)
            settings = {**given, **options["settings"]}
            made.append(LiteLLMModel(name, base, key).make_core({**options, "settings": settings}))
        return made[0] if len(made) == 1 else Fallback(*made)


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
        self.max_new_tokens, self._own = max_new_tokens, own
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model_id)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(model_id, **own)
        self.window: int | None = getattr(self.model.config, "max_position_embeddings", None)

    def to_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            key: value if isinstance(value, bool | dict) else str(value) for key, value in self._own.items()
        }
        return {**super().to_dict(), **own, "max_new_tokens": self.max_new_tokens}

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
