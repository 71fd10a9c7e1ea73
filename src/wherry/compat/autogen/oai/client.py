"""The names that programs import from `autogen.oai.client`."""

from __future__ import annotations

from wherry.compat.autogen.client import OpenAIWrapper
from wherry.compat.autogen.model_clients import ModelClient

__all__ = ["ModelClient", "OpenAIWrapper"]
