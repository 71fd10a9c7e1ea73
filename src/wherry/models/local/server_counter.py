"""Counting tokens by the running server, for models whose vocabulary no library here has."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from wherry.models.local.server import LlamaServer

SECONDS = 5.0
LONGEST = 100_000
"""Characters that are counted exactly (10 ms); of a longer text the beginning is, and the rest taken to be like it."""


class ServerCounter:
    """Counts the tokens of a text. Never raises; without a server, every byte counts as a token, which is the most."""

    def __init__(self, server: LlamaServer) -> None:
        self._server = server

    def __call__(self, text: str) -> int:
        if not text:
            return 0
        head = text[:LONGEST]
        size = len(head.encode("utf-8", "replace"))
        tokens = self._ask(head)
        if tokens is None:
            return len(text.encode("utf-8", "replace"))
        if len(text) <= LONGEST:
            return tokens
        return tokens + int((len(text.encode("utf-8", "replace")) - size) * min(1.0, 1.2 * tokens / size)) + 1

    def _ask(self, text: str) -> int | None:
        endpoint = self._server.endpoint
        if endpoint is None:
            return None
        place = urlsplit(endpoint.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=SECONDS)
        try:
            body = json.dumps({"content": text.encode("utf-8", "replace").decode()})
            headers = {"Authorization": f"Bearer {endpoint.key}", "Content-Type": "application/json"}
            connection.request("POST", "/tokenize", body, headers)
            answer: Any = json.loads(connection.getresponse().read())  # Any: llama.cpp's own JSON
            return len(answer["tokens"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None  # it died or hangs; the request will tell
        finally:
            connection.close()
