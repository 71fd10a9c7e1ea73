"""From what a user writes for a model to the model."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from typing import cast
from urllib.parse import urlsplit

from wherry.errors import ConfigurationError
from wherry.models.protocol import Model

FORMS = """\
  local                             the embedded model of this machine
  local:NAME or local:PATH.gguf     another model of the catalogue, or a file
  openai/NAME                       OpenAI; the key is $OPENAI_API_KEY
  ollama/NAME                       Ollama on this machine, or at $OLLAMA_HOST
  http://HOST:PORT/v1#NAME          any OpenAI-compatible server; without #NAME, the model that it has
  PROVIDER/NAME                     any provider of LiteLLM"""

OLLAMA = "http://127.0.0.1:11434"


def model_from(spec: str | Model) -> Model:
    """The model that `spec` names; a model is given back as it is.

    Nothing is asked, started or downloaded yet.

    Raises:
        ConfigurationError: It is none of the forms, which the message lists.
        MissingExtra: The form needs a package that is not installed.
    """
    if not isinstance(spec, str):
        # A class may satisfy the protocol's names too, and would fail only at its first call.
        if isinstance(cast("object", spec), type) or not isinstance(cast("object", spec), Model):
            raise ConfigurationError(
                f"{spec!r} is no model", hint="a model has `profile`, `complete` and `stream`; or give one of\n" + FORMS
            )
        return spec
    text = spec.strip()
    if text == "local" or text.startswith("local:"):
        from wherry.models.local import LocalModel  # imported here: it brings the catalogue

        name = text.partition(":")[2].strip()
        return LocalModel(name) if name else LocalModel()
    if re.match(r"https?://", text):
        from wherry.models.openai import OpenAIModel

        address, _, name = text.partition("#")
        return OpenAIModel(name, base_url=_with_v1(address))
    provider, slash, name = text.partition("/")
    if not slash or not name.strip() or not re.fullmatch(r"[a-z][a-z0-9_\-]*", provider):
        raise ConfigurationError(f"{spec!r} names no model", hint=_guess(text) + "one of\n" + FORMS)
    if provider == "openai" and (find_spec("openai") is not None or find_spec("litellm") is None):
        from wherry.models.openai import OpenAIModel

        return OpenAIModel(name)
    if provider == "ollama":
        from wherry.models.openai import OpenAIModel

        return OpenAIModel(name, base_url=_with_v1(_ollama_address()))
    from wherry.models.litellm import LiteLLMModel

    return LiteLLMModel(text)


def _with_v1(address: str) -> str:
    """The address with `/v1` where only a host was given."""
    return address.rstrip("/") + "/v1" if urlsplit(address).path in ("", "/") else address


def _ollama_address() -> str:
    """`$OLLAMA_HOST` in any form that Ollama takes: `host`, `host:port`, an address; `0.0.0.0` means this machine."""
    host = os.environ.get("OLLAMA_HOST", "").strip()
    if not host:
        return OLLAMA
    url = urlsplit(host if "://" in host else f"http://{host}")
    everywhere = (None, "0.0.0.0", "::")  # noqa: S104  # what a server binds to, and nobody can call
    name = "127.0.0.1" if url.hostname in everywhere else url.hostname
    port = url.port or (443 if url.scheme == "https" else 11434)
    return f"{url.scheme}://{f'[{name}]' if name and ':' in name else name}:{port}"


def _guess(text: str) -> str:
    if text.endswith(".gguf"):
        return f"did you mean local:{text}? "
    if re.match(r"(gpt-|o\d|chatgpt)", text):
        return f"did you mean openai/{text}? "
    if re.fullmatch(r"[\w.\-]+:\d+(/.*)?", text):
        return f"did you mean http://{text}? "
    return ""
