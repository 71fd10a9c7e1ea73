"""MCP servers for tests, run as programs: `python mcp_servers.py`, with a port for streamable HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

server = MCPServer("test")


@server.tool()
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="dotted.name-x", annotations=ToolAnnotations(read_only_hint=True))
def dotted(word: str | None = None) -> str:
    """Give a word back."""
    return f"word: {word}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def process() -> int:
    """The server's process."""
    return os.getpid()


@server.tool()
def record() -> dict[str, Any]:
    """An object."""
    return {"name": "Ada", "born": 1815}


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("the boat sank")


@server.tool(structured_output=False)
def mixed() -> CallToolResult:
    """Several things."""
    return CallToolResult(
        content=[
            TextContent(type="text", text="a picture"),
            ImageContent(type="image", data=b64encode(b"\x89PNG picture").decode(), mime_type="image/png"),
            EmbeddedResource(
                type="resource",
                resource=TextResourceContents(uri="file:///a.txt", text="notes", mime_type="text/plain"),
            ),
            EmbeddedResource(
                type="resource", resource=BlobResourceContents(uri="file:///b", blob=b64encode(b"\0\1").decode())
            ),
            ResourceLink(type="resource_link", uri="file:///c.csv", name="c", mime_type="text/csv"),
        ]
    )


@server.tool()
def large(count: int) -> str:
    """Many words."""
    return "word " * count


@server.tool()
async def hang(marker: str) -> str:
    """Write a file, then wait for ever; another one when cancelled."""
    import anyio

    Path(marker).write_text("began")
    try:
        await anyio.sleep_forever()
    except BaseException:
        Path(marker).write_text("cancelled")
        raise
    return "never"


@server.tool()
def die(marker: str) -> str:
    """Die in the middle of a call."""
    with Path(marker).open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def die_once(marker: str) -> str:
    """Die in the middle of the first call."""
    if not Path(marker).exists():
        Path(marker).write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@server.tool()
async def change(context: Context) -> str:
    """Add a tool, change one and take one back."""

    def added() -> str:
        """New."""
        return "new"

    def record(more: str) -> str:
        """An object, said otherwise."""
        return more

    server.add_tool(added)
    server.remove_tool("record")
    server.add_tool(record)
    server.remove_tool("fail")
    await context.notify_tools_changed()
    return "changed"


@server.tool()
def start_child() -> int:
    """Start a process that outlives its parent if nobody ends the group."""
    return subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL).pid


@server.tool()
def environment() -> list[str]:
    """The names of the server's variables."""
    return sorted(os.environ)


def wait_until_dead(pid: int) -> None:
    """Wait for the end of a process, whoever's child it is."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.005)


if __name__ == "__main__":
    print("a line of the server's own", file=sys.stderr)
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
