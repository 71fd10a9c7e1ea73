"""What MCP servers give back, as what tools of wherry give back."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from typing import TYPE_CHECKING, Any  # Any: JSON

from wherry.errors import StoreError, ToolError
from wherry.tools.context import current_context

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

MAX_ERROR = 2_000


def value_of(name: str, result: CallToolResult) -> Any:
    """Structured content as it is, text as text; pictures, sounds and other bytes as handles to artifacts.

    Raises:
        ToolError: The tool failed; what it said is the message.
    """
    if result.is_error:
        said = "\n".join(str(_part(block)) for block in result.content).strip()
        raise ToolError(said[:MAX_ERROR] or f"`{name}` failed and did not say why")
    structured: Any = result.structured_content
    others = [block for block in result.content if block.type != "text"]
    if structured is not None and not others:
        # What is no object stands under `result`, by the convention of servers.
        return structured["result"] if list(structured) == ["result"] else structured
    parts = [_part(block) for block in result.content]
    if structured is not None:
        parts = [structured, *(_part(block) for block in others)]
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return parts[0] if len(parts) == 1 else parts


def _part(block: ContentBlock) -> Any:
    if block.type == "text":
        return block.text
    if block.type == "image" or block.type == "audio":
        return _kept(block.data, block.mime_type)
    if block.type == "resource_link":
        found = {"resource": str(block.uri), "name": block.name, "media_type": block.mime_type}
        return {key: value for key, value in found.items() if value is not None}
    resource = block.resource
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return {"resource": str(resource.uri), "text": text}
    kept = _kept(str(getattr(resource, "blob", "")), resource.mime_type or "application/octet-stream")
    return {"resource": str(resource.uri), **kept}


def _kept(data: str, media_type: str) -> dict[str, Any]:
    """Bytes are of no use to a model as text: they are kept, and named."""
    try:
        content = b64decode(data, validate=True)
    except (Base64Error, ValueError):
        return {"media_type": media_type, "note": "damaged: no base64"}
    try:
        context = current_context()
        ref = context.store.artifacts.put(content, media_type=media_type, run_id=context.run_id).ref
    except (ToolError, StoreError, OSError):
        return {"media_type": media_type, "bytes": len(content), "data": content}
    return {"artifact": ref, "media_type": media_type, "bytes": len(content)}
