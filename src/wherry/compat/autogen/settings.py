"""From an `llm_config` to a model: one, or several behind one another."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast  # Any: parameters of servers

from wherry.compat.autogen.messages import Dict
from wherry.errors import ConfigurationError
from wherry.models import Fallback, Model, ModelProfile
from wherry.models.pricing import Price

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

    def model_dump(self) -> Dict:
        return dict(self._data)


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


def model_of(config: Mapping[str, Any]) -> Model:
    """The model; where there are several, the next is asked when one fails."""
    models = [_shared(one) for one in merged(config)]
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
    if (price := config.get("price")) is not None:  # of a thousand tokens, in and out
        options["price_key"] = Price(input=float(price[0]) * 1_000, output=float(price[1]) * 1_000)
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


# -- lists of models ---------------------------------------------------------------------------------------------------


def filter_config(
    config_list: Iterable[Dict], filter_dict: Mapping[str, Any] | None, exclude: bool = False
) -> list[Dict]:
    """The models whose fields have one of the values that are asked for; of `tags`, any."""
    if not filter_dict:
        return list(config_list)

    def matches(config: Dict) -> bool:
        return all(_has(config.get(key), wanted) for key, wanted in filter_dict.items())

    return [config for config in config_list if matches(config) != exclude]


def _has(value: Any, wanted: Any) -> bool:
    allowed: Sequence[Any] = [*wanted] if isinstance(wanted, list | tuple | set) else [wanted]
    if isinstance(value, list):
        return any(one in allowed for one in cast("list[Any]", value))
    return value in allowed


def config_list_from_json(
    env_or_file: str, file_location: str | None = "", filter_dict: Mapping[str, Any] | None = None
) -> list[Dict]:
    """The models in an environment variable that holds JSON or a file's name, or in a file.

    Raises:
        FileNotFoundError: there is neither.
    """
    said = os.environ.get(env_or_file)
    if said is not None and not Path(said).exists():
        found = json.loads(said)
    else:
        path = Path(said) if said is not None else Path(file_location or "") / env_or_file
        found = json.loads(path.read_text("utf-8"))
    return filter_config(found, filter_dict)


def get_config_list(
    api_keys: Sequence[str],
    base_urls: Sequence[str] | None = None,
    api_type: str | None = None,
    api_version: str | None = None,
) -> list[Dict]:
    """One entry for each key."""
    out: list[Dict] = []
    for number, key in enumerate(api_keys):
        config: Dict = {"api_key": key.strip()}
        if base_urls is not None:
            config["base_url"] = base_urls[number]
        out.append({**config, **{k: v for k, v in (("api_type", api_type), ("api_version", api_version)) if v}})
    return out


def config_list_from_models(model_list: Sequence[str] | None = None, **_: Any) -> list[Dict]:
    """One entry for each model, of OpenAI's by the key in the environment."""
    return [{"model": name} for name in model_list or ("gpt-4o", "gpt-4o-mini")]
