"""A chat completions server that takes nothing that strict servers refuse, and answers from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

Answer = str | list[dict[str, Any]] | Callable[[dict[str, Any]], "str | list[dict[str, Any]]"]
"""A text, or tool calls; or a function from the request to one of them."""


def call(name: str, id: str = "call_1", /, **arguments: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def problem(body: dict[str, Any]) -> str | None:
    """What a strict server would refuse."""
    if not body.get("max_tokens"):
        return "max_tokens is missing"
    roles = [message["role"] for message in body["messages"]]
    if roles[0] != "system" or roles.count("system") != 1:
        return f"roles {roles}"
    for before, after in pairwise(roles):
        if (before, after) in (("user", "user"), ("assistant", "assistant"), ("system", "assistant")):
            return f"{after} after {before}"
    open_calls: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return f"a result of no call: {message['tool_call_id']}"
            open_calls.discard(message["tool_call_id"])
        elif open_calls:
            return f"calls without results: {open_calls}"
        open_calls |= {one["id"] for one in message.get("tool_calls") or ()}
    return None


class StrictServer:
    """What it was asked, and where it is."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.url = ""

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(body)
        refused = problem(body)
        if refused is not None or not self.answers:
            self.refused.append(refused or "the script is at its end")
            return 400, {"error": {"message": self.refused[-1], "type": "invalid_request_error"}}
        given = self.answers.pop(0)
        given = given(body) if callable(given) else given
        message: dict[str, Any] = {"role": "assistant", "content": given if isinstance(given, str) else None}
        if not isinstance(given, str):
            message["tool_calls"] = given
        usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
        reason = "stop" if isinstance(given, str) else "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return 200, {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def strict_server(*answers: Answer) -> Generator[StrictServer]:
    held = StrictServer(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*held.answer(body))

        def do_GET(self) -> None:
            known = self.path.rstrip("/").endswith("/models")
            models = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 16384}]}
            self._send(200 if known else 404, models if known else {"error": {"message": "no"}})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    held.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert held.refused == []
