"""Tools: what an agent can call.

Owns what a tool is, its schema, the check of its arguments, how it is run, and what its result looks like to others.
Does not know agents, models or the journal: who calls a tool records the call and caps its result.
"""

from wherry.tools.collect import collect, to_tool
from wherry.tools.context import ToolContext, current_context, use_context
from wherry.tools.signature import signature
from wherry.tools.tool import DEFAULT_TIMEOUT, Tool, check_name, tool
from wherry.tools.values import as_json, as_text

__all__ = [
    "DEFAULT_TIMEOUT",
    "Tool",
    "ToolContext",
    "as_json",
    "as_text",
    "check_name",
    "collect",
    "current_context",
    "signature",
    "to_tool",
    "tool",
    "use_context",
]
