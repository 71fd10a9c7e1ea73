"""A server with a window of 2,048 tokens, for programs that are synchronous: it refuses what is larger."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal
from tests.compat_smolagents.strict_server import problem
from tests.guard_proxy.strict_upstream import StrictUpstream, serving


@contextmanager
def window_server(
    reply: Callable[[dict[str, Any]], dict[str, Any]] | None = None, *, window: int = 2_048
) -> Generator[StrictUpstream]:
    """The server, running; when it ends, no request was too large, and none what strict templates refuse."""
    upstream = StrictUpstream(window)
    upstream.reply = reply
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(upstream.handle)) as url:
        upstream.url = url
        yield upstream
    assert upstream.overflows == 0
    assert upstream.orphans == 0
    for sent in upstream.seen:
        assert problem(sent.body) is None


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def texts(body: dict[str, Any]) -> str:
    """All that a request says."""
    return "\n".join(str(message.get("content")) for message in body["messages"])
