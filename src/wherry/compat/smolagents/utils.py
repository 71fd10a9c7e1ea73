"""Where smolagents has its errors: programs import them from there, so the module's name is not ours to choose."""

from wherry.compat.smolagents.errors import (
    AgentError,
    AgentExecutionError,
    AgentGenerationError,
    AgentMaxStepsError,
    AgentParsingError,
    AgentToolCallError,
    AgentToolExecutionError,
)
from wherry.compat.smolagents.imports import BASE_BUILTIN_MODULES
from wherry.compat.smolagents.source import get_source
from wherry.compat.smolagents.text import is_valid_name, parse_code_blobs, parse_json_blob, truncate_content

__all__ = [
    "BASE_BUILTIN_MODULES",
    "AgentError",
    "AgentExecutionError",
    "AgentGenerationError",
    "AgentMaxStepsError",
    "AgentParsingError",
    "AgentToolCallError",
    "AgentToolExecutionError",
    "get_source",
    "is_valid_name",
    "parse_code_blobs",
    "parse_json_blob",
    "truncate_content",
]
