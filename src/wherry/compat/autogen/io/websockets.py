"""Chats over a web socket: what is printed is sent, what a person says is received."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any  # Any: what is printed, and options of the server's

from wherry.compat.autogen.io.base import InputStream, IOStream, OutputStream
from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from websockets.sync.server import Server, ServerConnection

logger = logging.getLogger(__name__)

# Programs send none. Not "null", which files have: any page can have a frame of that origin.
_ORIGINS = (None, re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?"))

__all__ = ["IOStream", "IOWebsockets", "InputStream", "OutputStream"]


class IOWebsockets(IOStream):
    """One who is connected. Each has a thread of their own, in which `on_connect` begins chats."""

    def __init__(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        self._gone = False
        """Whether they were asked when they were gone: the chat ends, and its last words are for nobody."""

    @property
    def websocket(self) -> ServerConnection:
        """The connection."""
        return self._websocket

    def print(self, *objects: Any, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
        """Send it.

        Raises:
            ConnectionClosed: they are gone: agents do not go on for nobody.
        """
        if not self._gone:
            self._websocket.send(sep.join(map(str, objects)) + end)

    def input(self, prompt: str = "", *, password: bool = False) -> str:
        """Ask, and wait for what they say.

        Raises:
            EOFError: they are gone; a chat ends then, with what was said so far.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            if prompt:
                self._websocket.send(prompt)
            said = self._websocket.recv()
        except ConnectionClosed as error:
            self._gone = True
            raise EOFError("the connection is closed") from error
        return said if isinstance(said, str) else said.decode()

    @staticmethod
    @contextmanager
    def run_server_in_thread(
        *,
        host: str = "127.0.0.1",
        port: int = 8765,
        on_connect: Callable[[IOWebsockets], Any],
        ssl_context: ssl.SSLContext | None = None,
        **kwargs: Any,
    ) -> Generator[str]:
        """While this lasts, take connections; gives the address.

        Args:
            host: Where.
            port: Where; 0 for one that is free.
            on_connect: Called for each who connects, in a thread in which agents print to them and ask them.
            ssl_context: Of a server that is to be safe on its way.
            kwargs: For the server of the websockets package. Without `origins`, programs may connect, and pages that a
                server on this machine gave, but no other page: it could speak for whoever reads it.

        Raises:
            ConfigurationError: the websockets package is not installed.
            OSError: the port is taken.
        """
        try:
            from websockets.sync.server import serve
        except ImportError:
            raise ConfigurationError(
                "IOWebsockets needs the package `websockets`", hint="pip install websockets"
            ) from None

        def connected(websocket: ServerConnection) -> None:
            stream = IOWebsockets(websocket)
            try:
                with IOStream.set_default(stream):
                    on_connect(stream)
            except Exception as error:  # noqa: BLE001 - a program's own function; the server goes on for others
                logger.warning("on_connect failed: %s: %s", type(error).__name__, error)

        options: dict[str, Any] = {
            "origins": _ORIGINS,
            **kwargs,
            **({} if ssl_context is None else {"ssl": ssl_context}),
        }
        server: Server = serve(connected, host, port, **options)
        thread = threading.Thread(target=server.serve_forever, name="wherry-websockets", daemon=True)
        thread.start()
        try:
            yield f"{'ws' if ssl_context is None else 'wss'}://{host}:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
