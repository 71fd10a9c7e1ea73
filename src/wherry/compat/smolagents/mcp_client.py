"""Tools of MCP servers, by smolagents' names (extra `mcp`)."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar, cast  # Any: parameters of servers, values of tools

from wherry.compat.smolagents.default_tools import AwaitedTool
from wherry.errors import ConfigurationError
from wherry.tools import Tool as WherryTool
from wherry.tools import as_json
from wherry.tools.context import current_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.tools.mcp_client import McpTools

C = TypeVar("C")


class McpTool(AwaitedTool):
    """A tool of a server; called by hand, it gives its result like any other.

    A result that is one picture is a picture here, where Pillow is installed.
    """

    skip_forward_signature_validation = True

    def __init__(self, tool: WherryTool, structured_output: bool | None = None) -> None:
        super().__init__()
        self.tool, self.structured_output = tool, structured_output
        self.name, self.description = tool.name, tool.description
        self.inputs = {name: {"description": "", **body} for name, body in (tool.inputs or {}).items()}
        self._promised: Mapping[str, Any] | None = getattr(tool, "output_schema", None)
        self.output_type = "any" if structured_output is None else "object"
        self.output_schema = tool.schema.returns if structured_output is None else self._promised
        if structured_output is False:
            self.output_schema = None
        self.untrusted, self.timeout = tool.untrusted, None
        self.side_effects, self.idempotent = tool.side_effects, tool.idempotent

    def validate_arguments(self) -> None:
        """The schema is the server's, and was looked at when it was listed."""

    async def awaited(self, **arguments: Any) -> Any:
        result = _shown(await self.tool.call(arguments))
        if self.structured_output is None or not _is_json(result):
            return result
        return self._structured(result) if self.structured_output else self._as_text(result)

    def _structured(self, result: Any) -> Any:
        """As the server has it: what is no object stands under `result`. A text without a schema may be JSON."""
        if self._promised is not None:
            return {"result": result} if list(self._promised.get("properties", ())) == ["result"] else result
        if isinstance(result, str):
            try:
                return json.loads(result)
            except ValueError:
                return result
        return result

    def _as_text(self, result: Any) -> Any:
        """What servers say beside a structured result, for clients that know texts only."""
        if isinstance(result, str) or self._promised is None:
            return result
        return json.dumps(result, indent=2, ensure_ascii=False)


def _is_json(result: Any) -> bool:
    kinds = (str, int, float, list, dict, type(None))
    return isinstance(result, kinds) and as_json(cast("object", result)) == result


def _shown(result: Any) -> Any:
    """A picture as one; everything else as it is."""
    picture: dict[str, Any] = cast("dict[str, Any]", result) if isinstance(result, dict) else {}
    if not str(picture.get("media_type")).startswith("image/"):
        return cast("object", result)
    content = picture.get("data")
    if content is None and "artifact" in picture:
        content = current_context().store.artifacts.read(picture["artifact"])
    try:
        from PIL import Image

        image = Image.open(BytesIO(cast("bytes", content)))
        image.load()
    except (ImportError, OSError, TypeError):  # not installed, or nothing that it can read
        return picture
    return image


class MCPClient:
    """Connections to one or more MCP servers: `with MCPClient(...) as tools:`, or `get_tools()` and `disconnect()`.

    Args:
        server_parameters: `mcp.StdioServerParameters`, `{"url": ..., "transport": "streamable-http"}` (or `"sse"`), or
            a list of these.
        adapter_kwargs: `connect_timeout` in seconds is taken from it.
        structured_output: None: structured results are given as such, one that is no object by itself. True: as the
            server has them, `{"result": ...}`. False: as texts.

    Raises:
        ToolError: A server cannot be had.
        ConfigurationError: The parameters name none, or a transport that there is not.
    """

    def __init__(
        self,
        server_parameters: Any,
        adapter_kwargs: Mapping[str, Any] | None = None,
        structured_output: bool | None = None,
    ) -> None:
        self._structured = structured_output
        self._seconds = float((adapter_kwargs or {}).get("connect_timeout", 30.0))
        listed = isinstance(server_parameters, list | tuple)
        self._parameters = cast("Sequence[Any]", server_parameters if listed else [server_parameters])
        self._servers: list[McpTools] = []
        self._tools: list[McpTool] | None = None
        self.connect()

    def connect(self) -> None:
        """Connect, unless that was done."""
        if self._tools is not None:
            return
        try:
            for parameters in self._parameters:
                self._servers.append(_server(parameters, self._seconds).connect())
            self._tools = [McpTool(tool, self._structured) for server in self._servers for tool in server]
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self, *_: object) -> None:
        """End the connections, and the servers that were started for them."""
        servers, self._servers, self._tools = self._servers, [], None
        for server in servers:
            server.close()

    def get_tools(self) -> list[McpTool]:
        """The servers' tools.

        Raises:
            ValueError: There is no connection.
        """
        if self._tools is None:
            raise ValueError(
                "Couldn't retrieve tools from MCP server, run `mcp_client.connect()` first before accessing `tools`"
            )
        return list(self._tools)

    def __enter__(self) -> list[McpTool]:
        self.connect()
        return self.get_tools()

    def __exit__(self, *_: object) -> None:
        self.disconnect()


@contextmanager
def collection(
    make: Callable[[list[Any]], C],
    server_parameters: Any,
    structured_output: bool | None = None,
    adapter_kwargs: Mapping[str, Any] | None = None,
) -> Generator[C]:
    """A collection of a server's tools, while the block lasts."""
    with MCPClient(server_parameters, adapter_kwargs, structured_output) as tools:
        yield make(tools)


def _server(parameters: Any, seconds: float) -> McpTools:
    from wherry.tools.mcp_client import mcp_tools

    if isinstance(parameters, Mapping):
        given = cast("Mapping[str, Any]", parameters)
        transport = given.get("transport", "streamable-http")
        if transport not in ("streamable-http", "sse", "stdio"):
            raise ConfigurationError(
                f"the transport {transport!r} of an MCP server is not spoken here", hint='"streamable-http" or "sse"'
            )
        known = cast("Mapping[str, object]", given.get("headers") or {})
        headers = {name: str(value) for name, value in known.items()}
        return mcp_tools({**given, "headers": headers}, connect_seconds=seconds)
    if not hasattr(parameters, "command"):
        raise ConfigurationError(
            f"{parameters!r} names no MCP server", hint="give mcp.StdioServerParameters, or a dict"
        )
    command = [str(parameters.command), *(parameters.args or ())]
    return mcp_tools(command, env=parameters.env or {}, cwd=parameters.cwd, connect_seconds=seconds)
