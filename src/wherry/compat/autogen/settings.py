"""From an `llm_config` to a model: one, or several behind one another."""

from __future__ import annotations

import copy
import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast  # Any: parameters of servers

from wherry.compat.autogen.messages import Dict
from wherry.compat.autogen.model_clients import ModelClients, price_of
from wherry.compat.autogen.model_lists import config_list_from_json, filter_config
from wherry.errors import ConfigurationError
from wherry.models import Fallback, Model, ModelProfile

_OURS = frozenset(
    {
        *("model", "api_key", "base_url", "api_base", "api_type", "api_version", "api_rate_limit", "organization"),
        *("project", "default_headers", "timeout", "price", "tags", "max_tokens", "max_completion_tokens", "tools"),
        *("functions", "function_call", "cache_seed", "cache", "stream", "response_format", "model_client_cls"),
        *("max_retries", "config_list", "filter_func", "allow_format_str_template", "context", "window", "messages"),
        *("http_client", "azure_deployment", "azure_endpoint", "hide_tools", "prompt", "n", "routing_method"),
        *("temperature", "num_ctx", "native_tool_calls", "client_host"),
    }
)
"""Settings that mean something here, or nothing; all others are the server's."""
_NOT_A_MODELS = frozenset({"tools", "functions", "cache_seed", "cache", "response_format", "tags"})
_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY")
_OLLAMA = "http://127.0.0.1:11434/v1"
_HOSTED = {"anthropic": "anthropic", "google": "gemini", "mistral": "mistral", "groq": "groq", "cohere": "cohere",
           "together": "together_ai", "bedrock": "bedrock", "cerebras": "cerebras"}  # fmt: skip


class LLMConfig(Mapping[str, Any]):
    """Which models are asked, and how: `LLMConfig({"model": ...}, temperature=0)` or `LLMConfig(config_list=[...])`.

    A mapping, and a context manager: agents that are made within it and say nothing else have it.

    Args:
        configs: models, each a dict as in `config_list`.
        config_list: the same as a list.
        options: what holds for all: `temperature`, `max_tokens`, `timeout`, `cache_seed`, `tools`, ... or, without
            models, a model itself: `LLMConfig(model=..., api_key=...)`.
    """

    _within: list[LLMConfig] = []  # noqa: RUF012 - one for all

    def __init__(self, *configs: Mapping[str, Any], config_list: Any = None, **options: Any) -> None:
        listed = _listed(config_list)
        found = [*configs, *listed]
        if not found and "model" in options:
            found, options = [options], {}
        self._data: Dict = {**options, "config_list": [dict(one) for one in found]}

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._data[key] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._data.get(name)

    def __enter__(self) -> LLMConfig:
        LLMConfig._within.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        LLMConfig._within.remove(self)

    def __repr__(self) -> str:
        return f"LLMConfig({_hidden(self._data)!r})"

    @property
    def current(self) -> LLMConfig | None:
        """The one whose `with` block this is in."""
        return LLMConfig.get_current_llm_config()

    @classmethod
    def get_current_llm_config(cls, llm_config: Any = None) -> Any:
        """`llm_config`, or else that of the `with` block that is under way."""
        return llm_config if llm_config is not None or not cls._within else cls._within[-1]

    def where(self, *, exclude: bool = False, **filter: Any) -> LLMConfig:
        """The same with those models alone that match.

        Raises:
            ValueError: none does.
        """
        kept = filter_config(self._data["config_list"], filter, exclude=exclude)
        if not kept:
            raise ValueError(f"No config found that satisfies the filter criteria: {filter}")
        return LLMConfig(config_list=kept, **{k: v for k, v in self._data.items() if k != "config_list"})

    @classmethod
    def from_json(
        cls, *, env: str | None = None, path: str | Path | None = None, file_location: str | None = None, **options: Any
    ) -> LLMConfig:
        """The models in an environment variable that holds JSON, or in a file.

        Raises:
            ValueError: neither is named, or both are.
            FileNotFoundError: there is no such file.
        """
        if (env is None) == (path is None):
            raise ValueError("give env, the name of an environment variable, or path, a file")
        return cls(config_list=config_list_from_json(env or str(path), file_location), **options)

    def get(self, key: str, default: Any = None) -> Any:
        return self._data.get(key, default)

    def items(self) -> Any:
        return self._data.items()

    def model_dump(self, *, exclude_none: bool = True) -> Dict:
        return {key: value for key, value in self._data.items() if value is not None or not exclude_none}

    def model_dump_json(self, *, exclude_none: bool = True) -> str:
        return json.dumps(self.model_dump(exclude_none=exclude_none))

    def copy(self, deep: bool = False) -> LLMConfig:
        """The same once more."""
        return copy.deepcopy(self) if deep else copy.copy(self)

    def deepcopy(self, memo: dict[int, Any] | None = None) -> LLMConfig:
        return copy.deepcopy(self, memo)


def _listed(config_list: Any) -> list[Mapping[str, Any]]:
    if config_list is None:
        return []
    if isinstance(config_list, Mapping):
        return [cast("Mapping[str, Any]", config_list)]
    return [*config_list]


def _hidden(data: Mapping[str, Any]) -> Dict:
    models = [{k: "..." if k == "api_key" else v for k, v in one.items()} for one in data["config_list"]]
    return {**data, "config_list": models}


def validated(llm_config: Any) -> Dict | None:
    """An `llm_config` as a dict with a `config_list`; None where no model is to be asked.

    Raises:
        ValueError: it names no model.
    """
    if llm_config is None:
        llm_config = LLMConfig.get_current_llm_config()
    if llm_config is None or llm_config is False:
        return None
    if isinstance(llm_config, str):
        raise ValueError("Please either set llm_config to False, or specify a non-empty 'model' or 'config_list'.")  # noqa: TRY004 - programs catch it
    config: Dict = {**cast("Mapping[str, Any]", llm_config)}
    models = [dict(one) for one in _listed(config.get("config_list"))]
    if not models and config.get("model"):
        models = [{"model": config["model"]}]
    if not models or not all(one.get("model") for one in models):
        raise ValueError(
            "When using OpenAI or Azure OpenAI endpoints, specify a non-empty 'model' either in 'llm_config' or in "
            "each config of 'config_list'."
        )
    return {**config, "config_list": models}


def merged(config: Mapping[str, Any]) -> list[Dict]:
    """Each model's own settings over those that hold for all."""
    shared = {key: value for key, value in config.items() if key != "config_list"}
    return [{**shared, **one} for one in config["config_list"]]


def model_of(config: Mapping[str, Any], clients: ModelClients) -> Model:
    """The model; where there are several, the next is asked when one fails.

    Raises:
        RuntimeError: an entry wants a client of the program's own, which is not registered.
    """
    models = [clients.model(number) or _shared(one) for number, one in enumerate(merged(config))]
    return models[0] if len(models) == 1 else Fallback(models[0], *models[1:])


_models: OrderedDict[str, Model] = OrderedDict()
"""By their settings. Agents by the dozen have the same ones: they share connections, and what was found out."""
_MOST_MODELS = 256


def _shared(config: Dict) -> Model:
    named: object = config["model"]
    if isinstance(getattr(named, "profile", None), ModelProfile):
        return cast("Model", named)
    own = {key: value for key, value in config.items() if key not in _NOT_A_MODELS}
    key = json.dumps([own, {name: os.environ.get(name) for name in _VARIABLES}], sort_keys=True, default=repr)
    if key not in _models:
        _models[key] = _model(config)
        if len(_models) > _MOST_MODELS:
            _models.popitem(last=False)
    _models.move_to_end(key)
    return _models[key]


def _model(config: Dict) -> Model:
    name, kind = str(config["model"]), str(config.get("api_type") or "openai").lower()
    base = config.get("base_url") or config.get("api_base") or config.get("client_host")
    settings = {key: value for key, value in config.items() if key not in _OURS and value is not None}
    options: Dict = {"settings": settings}
    if (most := config.get("max_tokens") or config.get("max_completion_tokens")) is not None:
        options["max_output"] = most
    for key in ("temperature", "window"):
        if config.get(key) is not None:
            options[key] = config[key]
    if config.get("timeout"):
        options["timeout"] = float(config["timeout"])
    if (price := price_of(config)) is not None:
        options["price_key"] = price
    if kind in _HOSTED and base is None:
        from wherry.models.litellm import LiteLLMModel

        return LiteLLMModel(f"{_HOSTED[kind]}/{name}", api_key=config.get("api_key"), **cast("Any", options))
    from wherry.models.openai import OpenAIModel

    key = config.get("api_key")
    if kind == "azure":
        base = base or config.get("azure_endpoint") or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not base:
            raise ConfigurationError(
                f"no address for {name!r} of Azure", hint="base_url='https://NAME.openai.azure.com'"
            )
        base = base if "/openai" in base else f"{base.rstrip('/')}/openai/v1"
        name, key = config.get("azure_deployment") or name, key or os.environ.get("AZURE_OPENAI_API_KEY")
    elif kind == "ollama":
        base = _OLLAMA if base is None else base if base.rstrip("/").endswith("/v1") else f"{base.rstrip('/')}/v1"
        options.setdefault("window", config.get("num_ctx"))
    headers: dict[str, str] = dict(config.get("default_headers") or {})
    for header, value in (
        ("OpenAI-Organization", config.get("organization")),
        ("OpenAI-Project", config.get("project")),
    ):
        if value:
            headers[header] = str(value)
    return OpenAIModel(name, base_url=base, api_key=key, headers=headers, **cast("Any", options))
