"""Tools of MCP servers, by smolagents' names (extra `mcp`)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast  # Any: parameters of servers, values of tools

from wherry.compat.smolagents.default_tools import AwaitedTool
from wherry.errors import ConfigurationError
from wherry.tools import Tool as WherryTool

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.tools.mcp_client import McpTools

C = TypeVar("C")


class McpTool(AwaitedTool):
    """A tool of a server; called by hand, it gives its result like any other."""

    skip_forward_signature_validation = True

    def __init__(self, tool: WherryTool) -> None:
        super().__init__()
        self.tool = tool
        self.name, self.description = tool.name, tool.description
        self.inputs = {name: {"description": "", **body} for name, body in (tool.inputs or {}).items()}
        self.output_type, self.output_schema = "any", tool.schema.returns
        self.untrusted, self.timeout = tool.untrusted, None
        self.side_effects, self.idempotent = tool.side_effects, tool.idempotent

    def validate_arguments(self) -> None:
        """The schema is the server's, and was looked at when it was listed."""

    async def awaited(self, **arguments: Any) -> Any:
        return await self.tool.call(arguments)


class MCPClient:
    """Connections to one or more MCP servers: `with MCPClient(...) as tools:`, or `get_tools()` and `disconnect()`.

    Args:
        server_parameters: `mcp.StdioServerParameters`, `{"url": ..., "transport": "streamable-http"}`, or a list.
        adapter_kwargs: `connect_timeout` in seconds is taken from it.
        structured_output: not needed: structured results are given as such.

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
            self._tools = [McpTool(tool) for server in self._servers for tool in server]
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
        if transport not in ("streamable-http", "stdio"):
            raise ConfigurationError(
                f"the transport {transport!r} of an MCP server is not spoken here",
                hint='"streamable-http"; servers of today have it in place of "sse"',
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
