"""Models: the protocol, its records, and the clients.

The records load with the package; a client loads when it is first named, so that nobody pays for the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wherry.models.protocol import (
    Counter,
    Model,
    ModelDelta,
    ModelProfile,
    ModelReply,
    ModelRequest,
    Prepared,
)

if TYPE_CHECKING:
    from wherry.models.cached import Cached
    from wherry.models.failure_kind import Failure, FailureKind
    from wherry.models.failures import classify
    from wherry.models.fallback import Fallback
    from wherry.models.key_ring import KeyRing
    from wherry.models.litellm import LiteLLMModel
    from wherry.models.local import LocalModel
    from wherry.models.openai import OpenAIModel
    from wherry.models.pricing import Price, cost
    from wherry.models.rate_limited import RateLimited
    from wherry.models.resolve import model_from
    from wherry.models.scripted import FunctionModel, ScriptedModel
    from wherry.models.tool_arguments import argument_error, parse_arguments

__all__ = [
    "Cached",
    "Counter",
    "Failure",
    "FailureKind",
    "Fallback",
    "FunctionModel",
    "KeyRing",
    "LiteLLMModel",
    "LocalModel",
    "Model",
    "ModelDelta",
    "ModelProfile",
    "ModelReply",
    "ModelRequest",
    "OpenAIModel",
    "Prepared",
    "Price",
    "RateLimited",
    "ScriptedModel",
    "argument_error",
    "classify",
    "cost",
    "model_from",
    "parse_arguments",
]

_HOMES = {
    "Cached": "cached",
    "Failure": "failure_kind",
    "FailureKind": "failure_kind",
    "Fallback": "fallback",
    "FunctionModel": "scripted",
    "KeyRing": "key_ring",
    "LiteLLMModel": "litellm",
    "LocalModel": "local",
    "OpenAIModel": "openai",
    "Price": "pricing",
    "RateLimited": "rate_limited",
    "ScriptedModel": "scripted",
    "argument_error": "tool_arguments",
    "classify": "failures",
    "cost": "pricing",
    "model_from": "resolve",
    "parse_arguments": "tool_arguments",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
