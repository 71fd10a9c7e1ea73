"""Fetching from the web what a model named: only over http and https, only from public addresses, never too much.

Each hop of a redirect is treated like the first address: its scheme, its host, the lists of hosts that may be reached,
the addresses behind its name, the site's robots.txt. A connection is made to an address that was checked, never to a
name; TLS and the `Host` header still have the name. No cookies, no credentials, no proxies.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from wherry.errors import ConfigurationError, MissingExtra, ToolError
from wherry.tools.egress import Egress, check_egress
from wherry.tools.fetching_addresses import AllowedPrivate, check_host, check_port, checked
from wherry.tools.fetching_unpacked import Unpacked
from wherry.tools.values import brief

if TYPE_CHECKING:
    import ssl

    from httpcore2 import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream, Response

USER_AGENT = "wherry"
"""The name that sites' robots.txt can speak of."""
_AGENT_HEADER = "Mozilla/5.0 (compatible; wherry; an agent that reads pages for a person)"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST = 4_096
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\<>\"^`{|}]")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a server sent."""

    url: str
    """Where it came from in the end."""
    status: int
    headers: Mapping[str, str]
    """By lower-case name; the last of each."""
    data: bytes
    cut: str = ""
    """Why this is not all of it, in a few words; empty if it is."""

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class FetchRules:
    """Where a tool may fetch from, and how much.

    Args:
        egress: Hosts: `example.org`, `*.example.org`; empty: any. A policy's list is asked besides.
        allow_private: Addresses and networks that may be reached although they are not public: `127.0.0.1`.
        max_bytes: Of one answer, unpacked; the rest is left out.
        seconds: For one page, with all redirects.
        max_redirects: Of one page.
        trust: Certificates that servers are checked against; None: the machine's.

    Raises:
        ConfigurationError: A number, host or address that cannot be.
    """

    def __init__(
        self,
        *,
        egress: Iterable[str] = (),
        allow_private: Iterable[str] = (),
        max_bytes: int = 5_000_000,
        seconds: float = 30.0,
        max_redirects: int = 5,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        if max_bytes < 1 or seconds <= 0 or max_redirects < 0:
            raise ConfigurationError(
                f"max_bytes={max_bytes}, seconds={seconds}, max_redirects={max_redirects} cannot be",
                hint="numbers above 0; no redirects are max_redirects=0",
            )
        if isinstance(egress, str):
            raise ConfigurationError(f"egress is {egress!r}", hint=f"give a list: [{egress!r}]")
        self.hosts = tuple(egress)
        self._egress = Egress(self.hosts) if self.hosts else None
        self.allowed = AllowedPrivate(allow_private)
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.max_redirects = max_redirects
        self.trust = trust

    def __str__(self) -> str:
        """What decides whether a page may be had, so that one that was kept is given to nobody who may not have it."""
        return f"{','.join(self.hosts)};{self.allowed};{self.max_bytes};{self.max_redirects}"

    def check(self, url: str) -> str:
        """The address as it is asked for, without its fragment.

        Raises:
            ToolError: It is none that may be fetched; what its name stands for is looked at when it is connected to.
        """
        if len(url) > _LONGEST or _FORBIDDEN.search(url):
            raise ToolError(f"{brief(url, 200)} is no address: give one like https://example.org/page")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ToolError(f"{brief(url, 200)} is no address: give one like https://example.org/page") from None
        if parts.scheme not in ("http", "https"):
            raise ToolError(f"{brief(url, 200)}: only addresses that begin with http:// or https:// are fetched")
        if not parts.hostname:
            raise ToolError(f"{brief(url, 200)} has no host")
        if "@" in parts.netloc:
            raise ToolError(f"{brief(url, 200)} holds a user's name; no credentials are sent")
        check_host(parts.hostname)
        if port is not None:
            check_port(port)
        if self._egress is not None and (problem := self._egress.refusal(url)) is not None:
            raise ToolError(problem)
        check_egress(url)
        return _in_ascii(urlunsplit((*parts[:2], parts.path or "/", parts.query, "")))


async def fetch(url: str, rules: FetchRules) -> Fetched:
    """One answer to one GET, redirects not followed.

    Raises:
        ToolError: It may not be fetched, or could not be.
        MissingExtra: The extra `web` is not installed.
    """
    try:
        import httpcore2
    except ImportError as error:
        raise MissingExtra("fetching from the web", "web") from error
    url = rules.check(url)
    headers: dict[str | bytes, str | bytes] = {
        "Host": urlsplit(url).netloc.rpartition("@")[2],
        "User-Agent": _AGENT_HEADER,
        "Accept": "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,*/*;q=0.1",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "close",
    }
    clock = asyncio.timeout(rules.seconds)
    pool = httpcore2.AsyncConnectionPool(ssl_context=rules.trust, network_backend=_backend(rules), retries=0)
    try:
        async with (
            clock,
            pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            named = _by_name(response.headers)
            if response.status in _REDIRECTS:
                return Fetched(url, response.status, named, b"")
            data = Unpacked(named.get("content-encoding", ""), rules.max_bytes)
            async for piece in _pieces(response):
                if not data.take(piece):
                    break
            return Fetched(url, response.status, named, data.all(), data.cut)
    except TimeoutError:
        if clock.expired():
            raise ToolError(f"{brief(url, 200)} did not come within {rules.seconds:g} s") from None
        raise ToolError(f"{brief(url, 200)} could not be fetched: it took too long") from None
    except (
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.TimeoutException,
        httpcore2.UnsupportedProtocol,
        OSError,
        ValueError,
    ) as error:
        raise ToolError(
            f"{brief(url, 200)} could not be fetched: {brief(str(error) or type(error).__name__, 200)}"
        ) from error


def next_hop(fetched: Fetched) -> str | None:
    """Where a redirect leads; None where the answer is none."""
    if fetched.status not in _REDIRECTS:
        return None
    where = fetched.headers.get("location")
    if not where:
        raise ToolError(f"{brief(fetched.url, 200)} redirects to nowhere")
    # Letters that are none of an address are taken as the bytes that they are, as browsers take them.
    plain = "".join(chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}" for byte in where.strip().encode("latin-1"))
    try:
        return urljoin(fetched.url, plain)
    except ValueError:
        raise ToolError(f"{brief(fetched.url, 200)} redirects to {brief(where, 200)}, which is no address") from None


def _backend(rules: FetchRules) -> AsyncNetworkBackend:
    from httpcore2 import AnyIOBackend
    from httpcore2 import AsyncNetworkBackend as Backend

    class Checked(Backend):
        """Resolves a name, looks at what it stands for, and connects to just that."""

        def __init__(self) -> None:
            self._plain = AnyIOBackend()

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
            local_address: str | None = None,
            socket_options: Iterable[SOCKET_OPTION] | None = None,
        ) -> AsyncNetworkStream:
            failed: Exception | None = None
            for address in checked(host, await _resolved(host, port), rules.allowed):
                try:
                    return await self._plain.connect_tcp(address, port, timeout=timeout)
                except Exception as error:  # noqa: BLE001 - the next address may work; raised below
                    failed = error
            raise failed or OSError("no address")

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return Checked()


async def _resolved(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ToolError(f"the name {brief(host, 100)} cannot be resolved: {error}") from None
    return [str(one[4][0]) for one in found]


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    named: dict[str, str] = {}
    for raw, value in headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        named[name] = f"{named[name]}, {text}" if name == "content-encoding" and name in named else text
    return named


async def _pieces(response: Response) -> AsyncIterator[bytes]:
    async for piece in response.aiter_stream():
        yield piece


def _in_ascii(url: str) -> str:
    """An address as it goes over the wire: the host in IDNA, other letters percent-encoded."""
    if url.isascii():
        return url
    from urllib.parse import quote

    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        host = host.encode("idna").decode()
    except UnicodeError:
        raise ToolError(f"{brief(url, 200)} has no host that can be asked for") from None
    check_host(host)  # digits of other scripts become plain ones
    where = host if parts.port is None else f"{host}:{parts.port}"
    safe = "/%:=&?~#+!$,;'@()*[]"
    return urlunsplit((parts.scheme, where, quote(parts.path, safe=safe), quote(parts.query, safe=safe), ""))
