"""Lists of models: read from files and the environment, and filtered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast  # Any: parameters of servers

from wherry.compat.autogen.messages import Dict

_AZURE_VERSION = "2024-02-01"


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


def get_config(
    api_key: str | None, base_url: str | None = None, api_type: str | None = None, api_version: str | None = None
) -> Dict:
    """One entry; a base_url, api_type or api_version may be the name of an environment variable."""
    given = {"base_url": base_url, "api_type": api_type, "api_version": api_version}
    return {"api_key": api_key, **{key: os.environ.get(value, value) for key, value in given.items() if value}}


def get_config_list(
    api_keys: Sequence[str],
    base_urls: Sequence[str] | None = None,
    api_type: str | None = None,
    api_version: str | None = None,
) -> list[Dict]:
    """One entry for each key that is not empty.

    Raises:
        AssertionError: there are not as many addresses as keys.
    """
    if base_urls is not None and len(api_keys) != len(base_urls):
        raise AssertionError("The length of api_keys must match the length of base_urls")
    out: list[Dict] = []
    for number, key in enumerate(api_keys):
        if not key.strip():
            continue
        config: Dict = {"api_key": key.strip()}
        if base_urls is not None:
            config["base_url"] = base_urls[number]
        out.append({**config, **{k: v for k, v in (("api_type", api_type), ("api_version", api_version)) if v}})
    return out


def config_list_openai_aoai(
    key_file_path: str | None = ".",
    openai_api_key_file: str | None = "key_openai.txt",
    aoai_api_key_file: str | None = "key_aoai.txt",
    openai_api_base_file: str | None = "base_openai.txt",
    aoai_api_base_file: str | None = "base_aoai.txt",
    exclude: str | None = None,
) -> list[Dict]:
    """One entry for each key of OpenAI's and Azure's in the environment, or in files, a line each; files come first.

    Args:
        key_file_path: The folder of the files; None: no files.
        openai_api_key_file: Its file, else `$OPENAI_API_KEY`.
        aoai_api_key_file: Its file, else `$AZURE_OPENAI_API_KEY`.
        openai_api_base_file: Its file, else `$OPENAI_API_BASE`.
        aoai_api_base_file: Its file, else `$AZURE_OPENAI_API_BASE`.
        exclude: `"openai"` or `"aoai"`.
    """

    def lines(file: str | None, variable: str) -> list[str]:
        path = None if key_file_path is None or file is None else Path(key_file_path) / file
        if path is not None and path.is_file():
            return path.read_text("utf-8").strip().split("\n")
        return os.environ.get(variable, "").split("\n")

    out: list[Dict] = []
    if exclude != "openai":
        urls = lines(openai_api_base_file, "OPENAI_API_BASE")
        out += get_config_list(lines(openai_api_key_file, "OPENAI_API_KEY"), urls if any(urls) else None)
    if exclude != "aoai":
        keys = lines(aoai_api_key_file, "AZURE_OPENAI_API_KEY")
        urls = lines(aoai_api_base_file, "AZURE_OPENAI_API_BASE")
        out += get_config_list(keys, urls, "azure", _AZURE_VERSION) if any(keys) else []
    return out


def config_list_from_models(
    key_file_path: str | None = ".",
    openai_api_key_file: str | None = "key_openai.txt",
    aoai_api_key_file: str | None = "key_aoai.txt",
    aoai_api_base_file: str | None = "base_aoai.txt",
    exclude: str | None = None,
    model_list: Sequence[str] | None = None,
) -> list[Dict]:
    """The entries of `config_list_openai_aoai`, each with each model."""
    found = config_list_openai_aoai(
        key_file_path, openai_api_key_file, aoai_api_key_file, None, aoai_api_base_file, exclude
    )
    return [{**config, "model": model} for config in found for model in model_list] if model_list else found


def config_list_gpt4_gpt35(
    key_file_path: str | None = ".",
    openai_api_key_file: str | None = "key_openai.txt",
    aoai_api_key_file: str | None = "key_aoai.txt",
    aoai_api_base_file: str | None = "base_aoai.txt",
    exclude: str | None = None,
) -> list[Dict]:
    """The entries of `config_list_openai_aoai` with the two models that classic programs had."""
    models = ("gpt-4", "gpt-3.5-turbo")
    return config_list_from_models(
        key_file_path, openai_api_key_file, aoai_api_key_file, aoai_api_base_file, exclude, models
    )


def config_list_from_dotenv(
    dotenv_file_path: str | None = None,
    model_api_key_map: Mapping[str, str | Mapping[str, Any]] | None = None,
    filter_dict: Mapping[str, Any] | None = None,
) -> list[Dict]:
    """One entry for each model whose key is in a `.env` file or in the environment.

    Args:
        dotenv_file_path: The file; None: `.env` in this folder, if there is one.
        model_api_key_map: By model, the variable of its key, or a dict of `api_key_env_var`, `base_url`, ...; `gpt-4`
            and `gpt-3.5-turbo` have `OPENAI_API_KEY` if it says nothing else.
        filter_dict: As `filter_config` has it.

    Raises:
        TypeError: what a model is given is neither.
    """
    path = Path(dotenv_file_path or ".env")
    known = {**(_variables(path.read_text("utf-8")) if path.is_file() else {}), **os.environ}
    out: list[Dict] = []
    for model, given in {
        "gpt-4": "OPENAI_API_KEY",
        "gpt-3.5-turbo": "OPENAI_API_KEY",
        **(model_api_key_map or {}),
    }.items():
        if isinstance(given, str):
            config = get_config(known.get(given))
        elif isinstance(cast("object", given), Mapping):
            rest = {key: value for key, value in given.items() if key != "api_key_env_var"}
            config = get_config(known.get(given.get("api_key_env_var", "OPENAI_API_KEY")), **rest)
        else:
            raise TypeError(f"Unsupported configuration type: {type(given)}")
        if config["api_key"]:
            out.append({**config, "model": model})
    return filter_config(out, filter_dict)


def _variables(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, is_one, value = line.strip().removeprefix("export ").partition("=")
        if is_one and key.strip() and not key.startswith("#"):
            found[key.strip()] = value.strip().strip("\"'")
    return found
