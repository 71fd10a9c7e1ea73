"""Which headers go on to a server and back, and which end here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from wherry.guard.proxy.refusals import Shape
from wherry.guard.proxy.upstream import Upstream

# https://www.rfc-editor.org/rfc/rfc9110#name-connection
_ONE_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_KEYS = frozenset({"authorization", "x-api-key", "api-key"})
_NOT_ON = (
    _ONE_HOP
    | _KEYS
    | {"host", "content-length", "accept-encoding", "content-encoding", "expect", "cookie", "origin", "referer"}
)
_NOT_BACK = _ONE_HOP | {"content-length", "content-encoding", "date", "server", "set-cookie", "alt-svc"}


def onward(
    headers: Mapping[str, str], upstream: Upstream, *, own_key: bool, first: Upstream, shape: Shape
) -> dict[str, str]:
    """The headers of a client's request as a server gets them.

    The client's own key goes to the first upstream's host only: it was not meant for others.
    """
    out = {
        name: value
        for name, value in ((name.lower(), value) for name, value in headers.items())
        if name not in _NOT_ON and not name.startswith(("x-wherry-", "x-forwarded-", "sec-"))
    }
    out["accept-encoding"] = "identity"  # what is passed on unread need not be packed and unpacked
    key = upstream.spec.key
    if key is not None:
        if shape == "anthropic" and "authorization" not in headers:  # newer clients of theirs send it like OpenAI's
            out["x-api-key"] = key.reveal()
        else:
            out["authorization"] = f"Bearer {key.reveal()}"
    elif own_key and _origin(upstream.url) == _origin(first.url):
        out.update({name: value for name in _KEYS if (value := headers.get(name)) is not None})
    return out


def back(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of a server's answer as the client gets them."""
    return [(name, value) for name, value in headers if name.lower() not in _NOT_BACK]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
