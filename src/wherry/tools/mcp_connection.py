"""A connection to an MCP server that is made again when the server has died.

It lives in a thread with an event loop of its own, so that tools of one server serve agents of any loop, and programs
without one. `mcp` ties a client to the task that opened it; `_serve` here starts such a task whenever one is wanted
and the last one has ended.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast  # Any: JSON, and the streams of `mcp`

from wherry.errors import ToolError, ToolTimeout
from wherry.tools.values import brief

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from anyio import CancelScope
    from mcp import Client
    from mcp_types import CallToolResult
    from mcp_types import Tool as Listed

T = TypeVar("T")

STDERR_KEPT = 4_096
"""Characters of what a server wrote to its standard error that are shown where it fails."""
_MOST_PAGES = 100
_TURNS = 20
"""Of the event loop, in which the end of a server that has died is heard of before anything is sent to it."""


@dataclass(frozen=True, slots=True)
class Command:
    """How a server is started that speaks over its standard input and output."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """Besides PATH, HOME and the like: a server gets no other variable of this process."""
    cwd: Path | str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is that speaks streamable HTTP."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    sse: bool = False
    """Whether it speaks the older way over HTTP, where answers come as a stream of events."""


class _LostError(Exception):
    """The connection ended while a call was under way."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent
        """Whether the server may have seen the call."""


class Connection:
    """One server.

    Args:
        server: How to reach it.
        on_tools: Called, in the connection's thread, with the server's tools whenever they were asked for.
        seconds: What connecting may take.
    """

    def __init__(
        self, server: Command | Address, *, on_tools: Callable[[Sequence[Listed]], None], seconds: float
    ) -> None:
        self._server = server
        self._on_tools = on_tools
        self._seconds = seconds
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stderr: deque[str] = deque(maxlen=64)
        self._closed = False
        # Of the loop's thread alone:
        self._client: Client | None = None
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        """The client is of no more use."""
        self._over = asyncio.Event()
        """It is closed, and `_cause` says why."""
        self._scope: CancelScope | None = None
        """Of the task that has, or is to have, a client. A task's own `cancel`, should it come a second time, breaks
        into the transport's shielded shutdown: the server lives on, and its end is waited for without end."""
        self._state: asyncio.Future[Client] | None = None
        self._cause: BaseException | None = None
        self._in_flight = 0

    # ---- from any thread

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Do something in the connection's loop."""
        with self._lock:
            if self._closed:
                work.close()
                raise ToolError(f"the connection to {self.name} was closed")
            if self._loop is None:
                ready = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(ready,), name="wherry-mcp", daemon=True)
                self._thread.start()
                ready.wait()
                atexit.register(self.close)  # a server must not outlive the program
            loop = cast("asyncio.AbstractEventLoop", self._loop)
        return asyncio.run_coroutine_threadsafe(work, loop)

    def close(self) -> None:
        """End the server, or leave it. Nothing can be called any more."""
        with self._lock:
            loop, thread, self._closed = self._loop, self._thread, True
        atexit.unregister(self.close)
        if loop is not None and thread is not None:
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(self._stop)
            if thread is not threading.current_thread():
                thread.join()

    @property
    def name(self) -> str:
        """For messages."""
        return self._server.url if isinstance(self._server, Address) else os.path.basename(self._server.command)

    @property
    def said(self) -> str:
        """The end of what the server wrote to its standard error."""
        return "".join(self._stderr)[-STDERR_KEPT:]

    # ---- in the loop

    async def connected(self) -> Client:
        """The client, connected anew if the last one ended.

        Raises:
            ToolError: The server cannot be had.
        """
        for _ in range(_TURNS):
            if self._client is None:
                break
            await asyncio.sleep(0)
        if self._client is not None and not self._gone.is_set():
            return self._client
        if self._state is None or self._state.done():
            self._state = asyncio.get_running_loop().create_future()
            self._wanted.set()
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(self._state)
        except TimeoutError:
            if self._scope is not None:
                self._scope.cancel()
            raise ToolError(
                f"the MCP server {self.name} did not answer within {self._seconds:g} s{self._told()}"
            ) from None

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, seconds: float | None, again: bool
    ) -> CallToolResult:
        """Call a tool of the server.

        Args:
            again: Whether a call that may have been made already may be made once more.

        Raises:
            ToolError: The server refused, or was lost.
            ToolTimeout: It took longer than `seconds`.
        """
        for attempt in (1, 2):
            client = await self.connected()
            try:
                async with asyncio.timeout(seconds):
                    return await self._call_once(client, name, arguments)
            except TimeoutError:
                raise ToolTimeout(
                    f"`{name}` did not return within {seconds:g} s; what it does may still take effect"
                ) from None
            except _LostError as lost:
                if attempt == 2 or (lost.sent and not again):
                    effect = "; whether the call took effect is not known" if lost.sent else ""
                    raise ToolError(
                        f"the MCP server {self.name} was lost during the call of `{name}`{effect}{self._told()}"
                    ) from None
        raise AssertionError("unreachable")

    async def _call_once(self, client: Client, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        gone = self._gone
        call = asyncio.ensure_future(client.call_tool(name, dict(arguments)))
        end = asyncio.ensure_future(gone.wait())
        self._in_flight += 1
        alone = self._in_flight == 1
        try:
            await asyncio.wait({call, end}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                await self._over.wait()
                raise _LostError(sent=not (alone and self._in_flight == 1 and self._never_connected()))
            return call.result()
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                raise ToolError(
                    f"the MCP server refused the call of `{name}`: {brief(error.message, 1_000)}"
                ) from error
            gone.set()
            await self._over.wait()
            raise _LostError(sent=not (alone and self._in_flight == 1 and self._never_connected())) from error
        except asyncio.CancelledError:
            if gone.is_set() and not call.cancelled() and (task := asyncio.current_task()) and not task.cancelling():
                raise _LostError(sent=True) from None
            raise
        finally:
            self._in_flight -= 1
            for task in (call, end):
                if not task.done():
                    task.cancel()
            await asyncio.gather(call, end, return_exceptions=True)

    def _never_connected(self) -> bool:
        """Whether the last client ended because nobody listens at the server's address."""
        import httpx2

        def holds(error: BaseException | None) -> bool:
            if isinstance(error, BaseExceptionGroup):
                return any(holds(one) for one in cast("BaseExceptionGroup[BaseException]", error).exceptions)
            return isinstance(error, httpx2.ConnectError)

        return holds(self._cause)

    def _told(self) -> str:
        said = self.said.strip()
        return f"; it said: {brief(said[-500:], 500)}" if said else ""

    # ---- the thread

    def _run(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            ready.set()
            await self._serve()

        asyncio.run(main())

    def _stop(self) -> None:
        self._gone.set()
        self._wanted.set()
        if self._client is None and self._scope is not None:  # it may wait for a server that says nothing
            self._scope.cancel()

    async def _serve(self) -> None:
        from anyio import CancelScope

        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            state = self._state
            self._gone, self._over, self._cause = asyncio.Event(), asyncio.Event(), None
            self._scope = CancelScope()
            task = asyncio.create_task(self._one_client(self._scope))
            await asyncio.wait({task})
            if not task.cancelled():
                self._cause = task.exception()
            self._client = None
            self._gone.set()
            self._over.set()
            if state is not None and not state.done():
                why = f"{_reason(self._cause)}{self._told()}"
                state.set_exception(ToolError(f"the MCP server {self.name} cannot be connected to: {why}"))
                state.exception()  # looked at: whoever waited may have given up
            if self._closed:
                return

    async def _one_client(self, scope: CancelScope) -> None:
        from mcp import Client

        gone = self._gone
        client = Client(self._transport(gone), cache=None, message_handler=self._heard)
        with scope:
            async with client:
                await self._list(client)
                self._client = client
                if self._state is not None and not self._state.done():
                    self._state.set_result(client)
                listening = asyncio.create_task(self._listen(client))
                listing = asyncio.create_task(self._list_again(client))
                try:
                    await gone.wait()
                finally:
                    for task in (listening, listing):
                        task.cancel()
                    await asyncio.gather(listening, listing, return_exceptions=True)

    async def _list(self, client: Client) -> None:
        found: list[Listed] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        self._on_tools(found)

    async def _list_again(self, client: Client) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            with suppress(Exception):  # the next call finds out what is wrong
                await self._list(client)

    async def _heard(self, message: object) -> None:
        """Servers of the protocol before 2026-07-28 send a notification."""
        if type(message).__name__ == "ToolListChangedNotification":
            self._changed.set()

    async def _listen(self, client: Client) -> None:
        """Later ones are asked to tell."""
        from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

        capabilities = client.server_capabilities.tools
        if capabilities is None or not capabilities.list_changed:
            return
        while True:
            try:
                async with client.listen(tools_list_changed=True) as events:
                    self._changed.set()  # what changed before anybody listened
                    async for _ in events:
                        self._changed.set()
                return
            except ListenNotSupportedError:
                return
            except SubscriptionLost:
                await asyncio.sleep(1.0)

    @asynccontextmanager
    async def _transport(self, gone: asyncio.Event) -> AsyncGenerator[Any]:
        server = self._server
        if isinstance(server, Address) and server.sse:
            from mcp.client.sse import sse_client

            async with _watched(sse_client(server.url, headers=dict(server.headers)), gone) as streams:
                yield streams
            return
        if isinstance(server, Address):
            from mcp.client.streamable_http import streamable_http_client
            from mcp.shared._httpx_utils import create_mcp_http_client

            http = create_mcp_http_client(headers=dict(server.headers))
            async with http, streamable_http_client(server.url, http_client=http) as streams:
                yield streams
            return
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=server.command, args=[*server.args], env=dict(server.env) or None, cwd=server.cwd
        )
        ours, theirs = os.pipe()
        threading.Thread(target=self._read_stderr, args=(ours,), name="wherry-mcp-stderr", daemon=True).start()
        with os.fdopen(theirs, "w") as log:
            async with _watched(stdio_client(parameters, errlog=log), gone) as streams:
                yield streams

    def _read_stderr(self, descriptor: int) -> None:
        with os.fdopen(descriptor, errors="replace") as lines:
            for line in iter(lambda: lines.readline(STDERR_KEPT), ""):
                self._stderr.append(line)


@asynccontextmanager
async def _watched(transport: AbstractAsyncContextManager[Any], gone: asyncio.Event) -> AsyncGenerator[Any]:
    """The streams of a transport; `gone` is set as soon as the server's end is closed."""
    import anyio

    async with transport as (read, write):
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def relay() -> None:
            try:
                async with send:
                    async for item in read:
                        await send.send(item)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                return  # the client is closing
            finally:
                gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(relay)
            try:
                yield receive, write
            finally:
                group.cancel_scope.cancel()
                receive.close()


def _reason(error: BaseException | None) -> str:
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return "; ".join(dict.fromkeys(_reason(one) for one in inner))
    if error is None:
        return "it ended"
    return brief(f"{type(error).__name__}: {error}", 300)
