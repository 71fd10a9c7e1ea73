"""Which hosts a network tool may reach.

A list of hosts is checked where a call's arguments are known. A tool that is sent on elsewhere, as by a redirect, asks
`check_egress` itself before it goes there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from wherry.errors import ConfigurationError, ToolError
from wherry.messages import ToolSchema
from wherry.tools.context import current_context
from wherry.tools.values import brief

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

# Read in one way by Python's urllib and in another by browsers: such an address is nobody's honest one.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
_PATTERN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:@\\]+)(?::(?P<port>\d{1,5}))?")
_FORMATS = frozenset({"uri", "url", "hostname", "idn-hostname", "iri", "multi-host-uri"})


class Egress:
    """A list of host patterns.

    `example.org` is that host, `*.example.org` every host below it, `localhost:8080` one port, `10.0.0.0/8` a network
    of addresses (names are not resolved).

    Raises:
        ConfigurationError: A pattern is none.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._hosts: list[tuple[str, int | None]] = []
        self._networks: list[IPv4Network | IPv6Network] = []
        for pattern in self.patterns:
            self._add(pattern)

    def _add(self, pattern: str) -> None:
        hint = 'a host without a scheme: "example.org", "*.example.org", "localhost:8080", "10.0.0.0/8"'
        if not isinstance(cast("object", pattern), str) or not pattern:
            raise ConfigurationError(f"egress: {brief(pattern, 80)} is no host", hint=hint)
        if "/" in pattern:
            from ipaddress import ip_network

            try:
                self._networks.append(ip_network(pattern, strict=False))
            except ValueError:
                raise ConfigurationError(f"egress: {brief(pattern, 80)} is no host", hint=hint) from None
            return
        found = _PATTERN.fullmatch(pattern)
        if found is None:
            raise ConfigurationError(f"egress: {brief(pattern, 80)} is no host", hint=hint)
        self._hosts.append((_plain(found["host"].strip("[]")), int(found["port"]) if found["port"] else None))

    def refusal(self, address: str) -> str | None:
        """Why an address, or a bare host, may not be reached; None if it may."""
        try:
            host, port = _host_of(address)
        except ValueError:
            return f"{brief(address, 200)} is no address that can be reached"
        if any(fnmatchcase(host, one) and wanted in (None, port) for one, wanted in self._hosts):
            return None
        if self._networks and self._within(host):
            return None
        allowed = ", ".join(self.patterns)
        return f"the host {brief(host, 100)} is not among those that may be reached: {allowed[:500]}"

    def _within(self, host: str) -> bool:
        from ipaddress import ip_address

        try:
            number = ip_address(host)
        except ValueError:
            return False  # a name
        return any(number in network for network in self._networks if network.version == number.version)


def check_egress(address: str) -> None:
    """Let a tool go to `address`, if every policy over the run that it is called in says so.

    Outside of a run everything may be reached.

    Raises:
        ToolError: It may not be reached.
    """
    try:
        lists = current_context().egress
    except ToolError:
        return
    for one in lists:
        if (problem := one.refusal(address)) is not None:
            raise ToolError(problem)


def addresses(schema: ToolSchema, network: Sequence[str], arguments: Mapping[str, Any]) -> Iterator[str]:
    """The addresses in a call's arguments: those that the tool names, and those of the format `uri`."""
    properties = cast("Mapping[str, Any]", schema.parameters.get("properties", {}))
    for name, value in arguments.items():
        if name in network or _is_address(properties.get(name)):
            yield from _texts(value)


def _is_address(fragment: object) -> bool:
    """Whether a schema, or that of its items or branches, is of an address."""
    if not isinstance(fragment, Mapping):
        return False
    body = cast("Mapping[str, object]", fragment)
    if body.get("format") in _FORMATS or _is_address(body.get("items")):
        return True
    branches = [branch for key in ("anyOf", "oneOf", "allOf") for branch in cast("list[object]", body.get(key) or [])]
    return any(_is_address(branch) for branch in branches)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in cast("Mapping[object, object]", value).values():
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in cast("Sequence[object]", value):
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool | int | float | bytes):
        yield str(value)  # pydantic's Url


def _host_of(address: str) -> tuple[str, int | None]:
    """
    Raises:
        ValueError: There is no host in it, or not one alone.
    """
    if _AMBIGUOUS.search(address):
        raise ValueError(address)
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not parts.hostname:
        raise ValueError(address)
    port = parts.port
    if port is None:
        port = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}.get(parts.scheme)
    return _plain(parts.hostname), port


def _plain(host: str) -> str:
    """A host as it is compared: lower case, without the root's dot, in ASCII."""
    host = host.lower().rstrip(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
