"""What the proxy is told."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from wherry.errors import ConfigurationError
from wherry.models.api_key import ApiKey
from wherry.models.endpoints import checked_url
from wherry.policy import Limits

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class UpstreamSpec:
    """One server that requests go to.

    Raises:
        ConfigurationError: The address is none.
    """

    url: str
    """Up to and with `/v1`; where that is left out of an address without a path, it is added."""
    _: KW_ONLY
    model: str | None = None
    """What is asked for there, whatever the client asks for."""
    key: ApiKey | None = field(default=None, repr=False)
    """Sent in place of the client's own."""

    @classmethod
    def parse(cls, text: str, key: ApiKey | None = None) -> UpstreamSpec:
        """`URL`, or `URL#MODEL`."""
        address, _, model = text.strip().partition("#")
        url = checked_url(address)
        if url.count("/") == 2:  # scheme://host: every server that speaks OpenAI's interface has it under /v1
            url += "/v1"
        return cls(url, model=model or None, key=key)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How the proxy listens, where it asks, what it lets through.

    Raises:
        ConfigurationError: Something makes no sense, or would let strangers in.
    """

    upstreams: tuple[UpstreamSpec, ...]
    """The first is asked; the others in its place, in order, when it fails."""
    _: KW_ONLY
    window: int | None = None
    """Context length in tokens; None: what the server says. Where the server says less, that counts."""
    host: str = "127.0.0.1"
    port: int = 8788
    """0: any free one."""
    token: ApiKey | None = field(default=None, repr=False)
    """What every client has to show."""
    keys: tuple[Path, ...] = ()
    """Files of clients' keys; with them, no other key is let in."""
    limits: Limits = field(default_factory=Limits)
    """What a key may spend in a day, where its file does not say."""
    strict: bool = False
    """Whether conversations are put so that servers with strict chat templates take them."""
    record: bool = True
    """Whether requests and replies are written to the store."""
    body_limit: int = 32 * MEGABYTE
    """Most bytes of a request."""
    header_seconds: float = 30.0
    """For a request's headers, and between two requests on one connection."""
    body_seconds: float = 60.0
    """For a request's body."""
    reader_seconds: float = 60.0
    """That a client may let its reply wait, before it is cut off."""
    first_token_seconds: float = 300.0
    """That a server may be silent before its reply."""
    stall_seconds: float = 120.0
    """That a server may be silent in the middle of a stream."""
    grace_seconds: float = 30.0
    """That replies under way are given when the proxy ends."""
    most_requests: int = 1_000
    """At the same time; more are told to come again."""

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ConfigurationError("no upstream was named", hint="--upstream http://127.0.0.1:8080/v1")
        if self.window is not None and self.window < 256:
            raise ConfigurationError(
                f"a window of {self.window} tokens holds no conversation", hint="give at least 256"
            )
        if not 0 <= self.port <= 65_535:
            raise ConfigurationError(f"{self.port} is no port", hint="give one from 1 to 65535, or 0 for any free one")
        if self.limits.seconds is not None:
            raise ConfigurationError("a key has no limit of seconds", hint="limit requests, tokens or usd")
        if not self.on_loopback and self.token is None and not self.keys:
            raise ConfigurationError(
                f"{self.host} can be reached from other machines, and nothing says who may ask",
                hint="give --token (or WHERRY_GUARD_TOKEN), or --keys FILE; or listen on 127.0.0.1",
            )
        if self.token is not None and len(self.token.reveal()) < 16:
            raise ConfigurationError("the token is too short to keep anybody out", hint="give 16 characters or more")

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return is_loopback_host(self.host)


@lru_cache(maxsize=64)
def is_loopback_host(host: str) -> bool:
    """Whether a host's name, without a port, is this machine's own."""
    host = host.strip("[]").lower()
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
