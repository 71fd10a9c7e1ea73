"""wherry: teams of AI agents that cannot outgrow their context, escape their sandbox, or lose their work.

Names load on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.agents import CodeAgent, RunResult, RunStatus, ToolCallingAgent
    from wherry.agents.group import GroupChat
    from wherry.context import ContextBudget, Knowledge
    from wherry.messages import Usage
    from wherry.models import (
        Cached,
        Fallback,
        FunctionModel,
        LiteLLMModel,
        OpenAIModel,
        RateLimited,
        ScriptedModel,
    )
    from wherry.models.local import LocalModel
    from wherry.policy import Limits, Policy
    from wherry.store import open_store
    from wherry.tools import Tool, tool
    from wherry.tools.mcp_client import mcp_tools
    from wherry.tools.mcp_server import serve_mcp

__version__ = "0.1.0"

_HOMES = {
    "Cached": "wherry.models",
    "CodeAgent": "wherry.agents",
    "ContextBudget": "wherry.context",
    "Fallback": "wherry.models",
    "FunctionModel": "wherry.models",
    "GroupChat": "wherry.agents.group",
    "Knowledge": "wherry.context",
    "Limits": "wherry.policy",
    "LiteLLMModel": "wherry.models",
    "LocalModel": "wherry.models.local",
    "OpenAIModel": "wherry.models",
    "Policy": "wherry.policy",
    "RateLimited": "wherry.models",
    "RunResult": "wherry.agents",
    "RunStatus": "wherry.agents",
    "ScriptedModel": "wherry.models",
    "Tool": "wherry.tools",
    "ToolCallingAgent": "wherry.agents",
    "Usage": "wherry.messages",
    "mcp_tools": "wherry.tools.mcp_client",
    "open_store": "wherry.store",
    "serve_mcp": "wherry.tools.mcp_server",
    "tool": "wherry.tools",
}

__all__ = [
    "Cached",
    "CodeAgent",
    "ContextBudget",
    "Fallback",
    "FunctionModel",
    "GroupChat",
    "Knowledge",
    "Limits",
    "LiteLLMModel",
    "LocalModel",
    "OpenAIModel",
    "Policy",
    "RateLimited",
    "RunResult",
    "RunStatus",
    "ScriptedModel",
    "Tool",
    "ToolCallingAgent",
    "Usage",
    "mcp_tools",
    "open_store",
    "serve_mcp",
    "tool",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'wherry' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
