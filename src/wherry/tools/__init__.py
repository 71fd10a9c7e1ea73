"""Tools: what an agent can call.

Owns what a tool is, its schema, the check of its arguments, how it is run, and what its result looks like to others.
Does not know agents, models or the journal: who calls a tool records the call and caps its result.
"""

from wherry.tools.collect import collect, to_tool
from wherry.tools.context import ToolContext, current_context, use_context
from wherry.tools.egress import Egress, check_egress
from wherry.tools.names import check_name
from wherry.tools.options import DEFAULT_TIMEOUT, StartedCall, ToolOptions
from wherry.tools.signature import signature
from wherry.tools.tool import Tool, tool
from wherry.tools.values import as_json, as_text

__all__ = [
    "DEFAULT_TIMEOUT",
    "Egress",
    "StartedCall",
    "Tool",
    "ToolContext",
    "ToolOptions",
    "as_json",
    "as_text",
    "check_egress",
    "check_name",
    "collect",
    "current_context",
    "signature",
    "to_tool",
    "tool",
    "use_context",
]
