"""Tools and agents, served as an MCP server (extra `mcp`)."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable  # Any: JSON, ASGI

from wherry.errors import ConfigurationError, MissingExtra, WherryError
from wherry.messages import JSON, ToolSchema
from wherry.tools.collect import to_tool
from wherry.tools.names import check_name
from wherry.tools.values import as_json, as_text

if TYPE_CHECKING:
    from mcp.server import Server
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LEAST_TOKEN = 16
"""Characters of a token: fewer can be tried out."""

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


@runtime_checkable
class AgentLike(Protocol):
    """An agent: it is served as a tool that takes a task."""

    name: str | None
    description: str | None

    async def arun(self, task: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Served:
    schema: ToolSchema
    call: Callable[[dict[str, Any]], Awaitable[object]]


def mcp_server(*things: object, name: str = "wherry", instructions: str | None = None) -> Server[Any]:
    """An MCP server of tools and agents, for whoever wants to run it by the means of `mcp`.

    An agent is a tool that takes a `task` and gives its output. Each call of one is a run of its own, in its own store.

    Args:
        things: Agents, tools, functions: whatever an agent takes as a tool.
        name: What clients are told that the server is.
        instructions: What clients are told besides.

    Raises:
        ConfigurationError: Something is none of these, or two have one name.
        MissingExtra: The extra `mcp` is not installed.
    """
    try:
        from mcp.server import Server
    except ImportError as error:
        raise MissingExtra("serving MCP", "mcp") from error
    served = _by_name(things)

    async def listed(context: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        from mcp_types import ListToolsResult, Tool

        return ListToolsResult(
            tools=[
                Tool(name=one.schema.name, description=one.schema.description, input_schema=dict(one.schema.parameters))
                for one in served.values()
            ]
        )

    async def called(context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        one = served.get(params.name)
        if one is None:
            return _result(f"there is no tool {params.name!r}; there are: {', '.join(served)}", failed=True)
        try:
            return _result(await one.call(dict(params.arguments or {})))
        except WherryError as error:
            return _result(error.message, failed=True)

    return Server(name, instructions=instructions, on_list_tools=listed, on_call_tool=called)


def serve_mcp(
    *things: object,
    transport: Literal["stdio", "http"] = "stdio",
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    name: str = "wherry",
) -> None:
    """Serve tools and agents over MCP until the client goes (stdio) or the process is told to end (http).

    Args:
        things: As `mcp_server`.
        transport: `"stdio"`: for a client that starts this program; standard output belongs to the protocol then.
            `"http"`: streamable HTTP at `/mcp`.
        host: For `"http"`. Another one than this machine's own needs a token.
        port: For `"http"`.
        token: What clients must send as `Authorization: Bearer ...`.
        name: What clients are told that the server is.

    Raises:
        ConfigurationError: As `mcp_server`; or the address would be open to everybody.
        MissingExtra: The extra `mcp` is not installed.
    """
    import anyio

    server = mcp_server(*things, name=name)
    if transport == "stdio":
        anyio.run(_over_stdio, server)
        return
    app = mcp_app(server, host=host, token=token)
    import uvicorn

    uvicorn.run(cast("Any", app), host=host, port=port, log_level="warning")


def mcp_app(server: Server[Any], *, host: str = "127.0.0.1", token: str | None = None) -> _App:
    """The server as an ASGI application, with its guards: a token, and on this machine the check of `Host`.

    Raises:
        ConfigurationError: The address would be open to everybody.
    """
    if token is None and host not in _LOOPBACK:
        raise ConfigurationError(
            f"a server at {host!r} would do whatever anybody asks", hint="give token=..., or host='127.0.0.1'"
        )
    if token is not None and len(token) < LEAST_TOKEN:
        raise ConfigurationError(f"the token has {len(token)} characters", hint=f"at least {LEAST_TOKEN}, at random")
    app = cast("_App", server.streamable_http_app(host=host))
    return app if token is None else _guarded(app, token)


def _guarded(app: _App, token: str) -> _App:
    wanted = f"Bearer {token}".encode()

    async def guard(scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] == "http":
            headers = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
            said = next((value for key, value in headers if key.lower() == b"authorization"), b"")
            if not hmac.compare_digest(said, wanted):
                start = {"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]}
                await send(start)
                await send({"type": "http.response.body", "body": b"a token is needed"})
                return
        await app(scope, receive, send)

    return guard


async def _over_stdio(server: Server[Any]) -> None:
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _by_name(things: Iterable[object]) -> dict[str, _Served]:
    found: dict[str, _Served] = {}
    for thing in things:
        one = _served(thing)
        if one.schema.name in found:
            raise ConfigurationError(f"two things are named {one.schema.name!r}", hint="rename one of them")
        found[one.schema.name] = one
    if not found:
        raise ConfigurationError("there is nothing to serve", hint="give agents, tools or functions")
    return found


def _served(thing: object) -> _Served:
    if isinstance(thing, AgentLike):
        if not thing.name or not thing.description:
            raise ConfigurationError(
                f"an agent ({type(thing).__name__}, name={thing.name!r}) has no name or description",
                hint="give it both: clients choose by them",
            )
        return _of_agent(thing, check_name(thing.name, "an agent"), thing.description)
    tool = to_tool(thing)
    return _Served(tool.schema, tool.call)


def _of_agent(agent: AgentLike, name: str, description: str) -> _Served:
    task = {"type": "string", "description": "what is to be done, in full"}
    parameters = {"type": "object", "properties": {"task": task}, "required": ["task"]}

    async def run(arguments: dict[str, Any]) -> object:
        asked = arguments.get("task")
        if not isinstance(asked, str) or not asked.strip():
            raise ConfigurationError("the task is empty; say in full what is to be done")
        result = await agent.arun(asked)
        if str(result.status) != "completed":
            return f"[not finished: {result.status}] {as_text(result.output)}"
        return result.output

    return _Served(ToolSchema(name, description, parameters), run)


def _result(value: object, *, failed: bool = False) -> CallToolResult:
    from mcp_types import CallToolResult, TextContent

    structured: JSON = as_json(value)
    return CallToolResult(
        content=[TextContent(type="text", text=as_text(value))],
        structured_content=structured if isinstance(structured, dict) and not failed else None,
        is_error=failed,
    )
