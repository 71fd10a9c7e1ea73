"""Where smolagents has its errors and functions that programs import: the module's name is not ours to choose."""

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
from wherry.compat.smolagents.preparing import encode_image_base64
from wherry.compat.smolagents.source import get_source
from wherry.compat.smolagents.text import (
    MAX_LENGTH_TRUNCATE_CONTENT,
    is_valid_name,
    parse_code_blobs,
    parse_json_blob,
    truncate_content,
)

__all__ = [
    "BASE_BUILTIN_MODULES",
    "MAX_LENGTH_TRUNCATE_CONTENT",
    "AgentError",
    "AgentExecutionError",
    "AgentGenerationError",
    "AgentMaxStepsError",
    "AgentParsingError",
    "AgentToolCallError",
    "AgentToolExecutionError",
    "encode_image_base64",
    "get_source",
    "is_valid_name",
    "make_image_url",
    "parse_code_blobs",
    "parse_json_blob",
    "truncate_content",
]


def make_image_url(base64_image: str) -> str:
    """A picture's address that holds it, as messages to servers have it."""
    return f"data:image/png;base64,{base64_image}"
