"""Tools of MCP servers (extra `mcp`)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from keyword import iskeyword
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, cast  # Any: JSON

from wherry.errors import ConfigurationError, MissingExtra, WherryError
from wherry.messages import canonical
from wherry.tools.collect import declared_inputs
from wherry.tools.hints import Documentation
from wherry.tools.mcp_connection import Address, Command, Connection
from wherry.tools.mcp_results import value_of
from wherry.tools.names import RESERVED
from wherry.tools.tool import Tool
from wherry.tools.values import brief

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_types import Tool as Listed

CONNECT_SECONDS = 30.0
MOST_TOOLS = 1_000
"""Of one server; each costs some milliseconds, and no window holds as many."""
LONGEST_DESCRIPTION = 8_000
"""Characters."""


class HasTools(Protocol):
    """An agent."""

    tools: dict[str, Tool]


class McpTool(Tool):
    """A tool of a server. Its schema is what the server said when it was made; a changed one is another object."""

    def __init__(
        self, name: str, listed: Listed, connection: Connection, *, timeout: float | None, untrusted: bool
    ) -> None:
        hints = listed.annotations
        self.name = name
        said = (listed.description or "").strip() or listed.title or listed.name
        self.description = said if len(said) <= LONGEST_DESCRIPTION else f"{said[:LONGEST_DESCRIPTION]}…"
        self.inputs = declared_inputs(name, listed.input_schema)
        self.untrusted = untrusted
        # What a server does not say is assumed, as its protocol has it: it changes things.
        self.side_effects = not (hints and hints.read_only_hint)
        self.idempotent = bool(hints and hints.idempotent_hint)
        self.timeout = None  # the connection keeps it, together with the server's
        self.seconds = timeout
        self.theirs = listed.name
        """What the server calls it."""
        self._connection = connection
        self.output_schema = listed.output_schema
        """What the server says of its results; None where it says nothing."""

    async def forward(self, **arguments: Any) -> Any:
        given = {key: value for key, value in arguments.items() if value is not None or self._required(key)}
        again = self.idempotent or not self.side_effects
        call = self._connection.call(self.theirs, given, seconds=self.seconds, again=again)
        # A cancelled wait cancels the call, which tells the server.
        result = await asyncio.wrap_future(self._connection.start(call))
        return value_of(self.name, result)

    def _required(self, name: str) -> bool:
        return not (self.inputs or {}).get(name, {}).get("nullable")

    def _returns(self, function: Callable[..., object], docs: Documentation) -> Mapping[str, Any] | None:
        schema: Any = self.output_schema
        properties: Any = schema.get("properties", {}) if schema else {}
        return properties["result"] if list(properties) == ["result"] else schema  # as `value_of` gives it


class McpTools:
    """The tools of one MCP server; `mcp_tools` makes it.

    Use it in a `with` or `async with` block, or call `close()`: the server is ended with it. Iterating gives the tools,
    so it can stand where a list of tools is asked for. A server that died is started, or connected to, again at the
    next call. Tools that the server adds, changes or takes back while it is connected are seen in `tools` at once, and
    by agents that `follow` names at their next step.
    """

    def __init__(
        self,
        server: Command | Address,
        *,
        prefix: str = "",
        timeout: float | None = 60.0,
        connect_seconds: float = CONNECT_SECONDS,
        untrusted: bool = True,
    ) -> None:
        if prefix and not prefix.isidentifier():
            raise ConfigurationError(f"prefix is {prefix!r}", hint="the beginning of a name: letters, digits and _")
        self._prefix = prefix
        self._timeout = timeout
        self._untrusted = untrusted
        self._lock = threading.Lock()
        self._tools: dict[str, Tool] = {}
        self._digests: dict[str, bytes] = {}
        self._followers: list[HasTools] = []
        self.left_out: dict[str, str] = {}
        """Tools that the server has and that cannot be used, by its own name for them, and why."""
        self._connection = Connection(server, on_tools=self._take, seconds=connect_seconds)

    @property
    def tools(self) -> dict[str, Tool]:
        """By name, as they are now; connects if that was not done yet."""
        if not self._digests:
            self.connect()
        with self._lock:
            return dict(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools.values())

    def connect(self) -> Self:
        """Connect, and ask for the tools.

        Raises:
            ToolError: The server cannot be had.
            MissingExtra: The extra `mcp` is not installed.
        """
        _check_installed()
        self._connection.start(self._connection.connected()).result()
        return self

    def follow(self, agent: HasTools) -> None:
        """Keep the server's tools in `agent.tools`: what changes there, changes at the agent's next step.

        A tool that the server has later, of the name of one that the agent has from elsewhere, does not take its place.

        Raises:
            ConfigurationError: The agent has other tools of these names.
        """
        tools = self.tools
        with self._lock:
            for name, tool in tools.items():
                if agent.tools.get(name, tool) is not tool or name in _agents_of(agent):
                    raise ConfigurationError(
                        f"the agent has a tool `{name}` already, and the server has one of that name",
                        hint='give the server\'s a prefix: mcp_tools(..., prefix="theirs_")',
                    )
            self._followers.append(agent)
            agent.tools.update(tools)

    def close(self) -> None:
        """End the connection, and a server that was started for it."""
        self._connection.close()

    def __enter__(self) -> Self:
        try:
            return self.connect()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        _check_installed()
        try:
            await asyncio.wrap_future(self._connection.start(self._connection.connected()))
        except BaseException:
            await asyncio.to_thread(self.close)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _take(self, listed: Sequence[Listed]) -> None:
        """What the server has now. A tool that is as it was stays the same object."""
        made: dict[str, Tool] = {}
        digests: dict[str, bytes] = {}
        left_out = {one.name: f"the server has more than {MOST_TOOLS:,} tools" for one in listed[MOST_TOOLS:]}
        for one in listed[:MOST_TOOLS]:
            name = self._named(one.name, made)
            try:
                said = canonical(one.model_dump(mode="json", exclude={"meta", "icons"}))
                if self._digests.get(name) == said:
                    made[name] = self._tools[name]
                else:
                    tool = McpTool(name, one, self._connection, timeout=self._timeout, untrusted=self._untrusted)
                    _ = tool.schema  # a malformed one is found here
                    made[name] = tool
            except (WherryError, ValueError, TypeError, RecursionError) as error:  # one of many must not cost all
                left_out[one.name] = (error.message if isinstance(error, WherryError) else str(error))[:300]
                made.pop(name, None)
                continue
            digests[name] = said
        with self._lock:
            self.left_out = left_out
            gone = self._tools.keys() - made.keys()
            before, self._tools, self._digests = self._tools, made, digests
            for agent in self._followers:
                for name in gone:
                    if agent.tools.get(name) is before[name]:
                        del agent.tools[name]
                for name, tool in made.items():
                    # In the place of its own, older one, and never of another's.
                    known = agent.tools.get(name, tool)
                    if (known is not tool and known is not before.get(name)) or name in _agents_of(agent):
                        continue
                    agent.tools[name] = tool

    def _named(self, theirs: str, taken: Mapping[str, Tool]) -> str:
        """A name that models and snippets can use: servers may use dots and dashes."""
        name = re.sub(r"\W", "_", f"{self._prefix}{theirs}", flags=re.ASCII)[:60] or "tool"
        if name[0].isdigit() or name in RESERVED or iskeyword(name):
            name = f"_{name}"
        number, free = 2, name
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        return free


def _agents_of(agent: HasTools) -> Container[str]:
    """The names of the agents that it manages: they are called as tools are."""
    return getattr(agent, "managed_agents", ())


def mcp_tools(
    server: str | Sequence[str] | Mapping[str, Any],  # Any: as the configuration files of MCP clients have it
    *,
    prefix: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = 60.0,
    connect_seconds: float = CONNECT_SECONDS,
    untrusted: bool = True,
) -> McpTools:
    """The tools of an MCP server.

    Args:
        server: The address of one that speaks streamable HTTP (`"http://127.0.0.1:8000/mcp"`), a command that starts
            one which speaks over its standard input and output (`["python", "server.py"]`), or either as in
            configuration files: `{"command": ..., "args": [...], "env": {...}}`, `{"url": ..., "headers": {...}}`; with
            `"transport": "sse"` a server of before 2025, whose answers come as a stream of events.
        prefix: Before the name of each tool, where two servers have tools of one name.
        env: Variables for a server that is started; it gets PATH, HOME and the like besides, and nothing else.
        cwd: Where it is started.
        headers: For a server at an address, such as `Authorization`.
        timeout: Seconds that a call may take; None: any time.
        connect_seconds: What starting or reaching the server may take.
        untrusted: Whether what it gives is marked as data from outside. False only for servers that give nothing that
            others wrote.

    Raises:
        ConfigurationError: `server` is none of these.
    """
    options: dict[str, Any] = {
        "prefix": prefix, "timeout": timeout, "connect_seconds": connect_seconds, "untrusted": untrusted
    }  # fmt: skip
    if isinstance(server, Mapping):
        if "url" in server:
            merged = {**server.get("headers", {}), **(headers or {})}
            return McpTools(Address(str(server["url"]), merged, sse=server.get("transport") == "sse"), **options)
        if "command" in server:
            merged = {**server.get("env", {}), **(env or {})}
            where = cwd if cwd is not None else server.get("cwd")
            return McpTools(Command(str(server["command"]), [*server.get("args", ())], merged, where), **options)
    elif isinstance(server, str):
        if server.startswith(("http://", "https://")):
            return McpTools(Address(server, headers or {}), **options)
    elif server and all(isinstance(cast("object", part), str) for part in server):
        return McpTools(Command(server[0], server[1:], env or {}, cwd), **options)
    raise ConfigurationError(
        f"{brief(server, 200)} is no MCP server",
        hint='an address ("http://..."), or a command in a list (["python", "server.py"])',
    )


def _check_installed() -> None:
    try:
        import mcp
    except ImportError as error:
        raise MissingExtra("MCP", "mcp") from error
    if not hasattr(mcp, "Client"):
        raise ConfigurationError("the package mcp is older than 2", hint="pip install 'wherry[mcp]'")
