"""An MCP server for tests, run as a program: `python mcp_server.py [sse PORT]`."""

from __future__ import annotations

import sys
from base64 import b64encode
from io import BytesIO
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ImageContent, TextContent
from PIL.Image import new as new_image

server = MCPServer("harbour")


@server.tool()
def ship(name: str, flag: str | None = None) -> dict[str, Any]:
    """Looks a ship up."""
    return {"name": name, "masts": 3, "flag": flag}


@server.tool()
def berths() -> int:
    """Counts berths."""
    return 12


@server.tool(structured_output=False)
def log() -> str:
    """The harbour's log, as JSON in a text."""
    return '["in", "out"]'


@server.tool(structured_output=False)
def photo() -> CallToolResult:
    """A picture of the harbour."""
    out = BytesIO()
    new_image("RGB", (4, 3), "blue").save(out, "png")
    return CallToolResult(
        content=[ImageContent(type="image", data=b64encode(out.getvalue()).decode(), mime_type="image/png")]
    )


@server.tool(structured_output=False)
def fog() -> CallToolResult:
    """Nothing can be seen."""
    return CallToolResult(content=[TextContent(type="text", text="fog")], is_error=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("sse", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
