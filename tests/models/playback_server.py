"""A server on loopback that plays recorded answers, whole or broken, over real HTTP."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

JSONType = "application/json"
Ending = Literal["close", "reset", "stall"]


@dataclass
class Answer:
    """What is sent for one request."""

    body: Any = ""
    """JSON, or a text that is sent as it is; a list of texts is a stream of events."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    media_type: str | None = None
    ending: Ending = "close"
    """After the body: end as announced, reset the connection, or send nothing more until the server stops."""
    declared: int | None = None
    """A Content-Length that is not the body's."""


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


def events(*items: Any, done: bool = True) -> list[str]:
    """A stream: each item an event's JSON, or a text that is sent as it is."""
    out = [item if isinstance(item, str) else f"data: {json.dumps(item, ensure_ascii=False)}\n\n" for item in items]
    return [*out, "data: [DONE]\n\n"] if done else out


def delta(content: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    inner: dict[str, Any] = ({} if content is None else {"content": content}) | more
    return {"model": "m-2026", "choices": [{"index": 0, "delta": inner, "finish_reason": finish}]}


def completion(
    content: str | None = "hi", *, finish: str = "stop", usage: Any = None, **message: Any
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-2026",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
        ],
    } | ({"usage": usage} if usage is not None else {})


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # 5 by default: more connections at once are reset


class PlaybackServer:
    """Answers POSTs with `answers` in order, and GETs (and POSTs to other paths) by path from `pages`."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.pages: dict[str, Answer] = {}
        self.seen: list[Seen] = []
        self.reached = threading.Event()
        """Set when a request has come."""
        self.gone = threading.Event()
        """Set when a client hung up on an answer that stalls."""
        self._stop = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self._note(None)
                _send(self, owner.pages.get(self.path, Answer({"error": "not found"}, 404)), owner)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers.get("content-length", 0)))
                self._note(json.loads(data) if data else None)
                if self.path in owner.pages:
                    _send(self, owner.pages[self.path], owner)
                else:
                    answer = owner.answers.pop(0) if owner.answers else Answer({"error": "the script is used up"}, 400)
                    _send(self, answer, owner)

            def _note(self, body: Any) -> None:
                headers = {k.lower(): v for k, v in self.headers.items()}
                owner.seen.append(Seen(self.command, self.path, headers, body))
                owner.reached.set()

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def bodies(self) -> Sequence[Any]:
        return [s.body for s in self.seen if s.path.endswith("/chat/completions")]

    def play(self, *answers: Any) -> None:
        """Add answers; anything that is no `Answer` is the body of one."""
        self.answers += [a if isinstance(a, Answer) else Answer(a) for a in answers]

    def stalled(self, connection: socket.socket) -> None:
        """Hold the connection until the client closes it or the server stops."""
        connection.settimeout(0.05)
        while not self._stop.is_set():
            try:
                if not connection.recv(1024):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.gone.set()

    def __enter__(self) -> PlaybackServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _write(handler: BaseHTTPRequestHandler, answer: Answer, server: PlaybackServer) -> None:
    streamed = isinstance(answer.body, list)
    text = (
        "".join(answer.body) if streamed else answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    )
    data = text.encode()
    handler.send_response(answer.status)
    default = "text/event-stream" if streamed else JSONType
    handler.send_header("content-type", answer.media_type or default)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    if streamed:
        handler.send_header("transfer-encoding", "chunked")
    else:
        handler.send_header("content-length", str(len(data) if answer.declared is None else answer.declared))
    handler.end_headers()
    handler.wfile.flush()
    for piece in answer.body if streamed else [text]:
        raw = piece.encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw) if streamed else raw)
        handler.wfile.flush()
    if answer.ending == "stall":
        server.stalled(handler.connection)
    elif answer.ending == "reset":
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif streamed:
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()
        return
    elif answer.declared is None:
        return
    handler.close_connection = True


def _send(handler: BaseHTTPRequestHandler, answer: Answer, server: PlaybackServer) -> None:
    try:
        _write(handler, answer, server)
    except OSError:  # the client hung up first
        handler.close_connection = True
        server.gone.set()
