"""Which addresses a tool may connect to that fetches what a model, or a page, named.

A model that reads the web can be told to fetch `http://169.254.169.254/`, the metadata of the machine that it runs on,
or the router's page, or a service on loopback that trusts its neighbours. So every address that a name stands for is
looked at before anything is connected to, and it is that very address which is connected to: a name that is resolved
twice can mean two things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import cast

from wherry.errors import ConfigurationError, ToolError
from wherry.tools.values import brief

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Beside what `is_global` knows: IANA's registries of special-purpose addresses (November 2026), clouds' manuals.
_NEVER: tuple[Network, ...] = tuple(
    ip_network(one)
    for one in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carriers' own; Alibaba's metadata at 100.100.100.200
        "168.63.129.16/32",  # Azure's host, in a public network
        "192.0.0.0/24",  # Oracle's metadata at 192.0.0.192
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        # Public IPv6 addresses are in 2000::/3 alone. Outside of it are IPv4 addresses in older clothes (::/96,
        # ::ffff:0:0:0/96), translation into private IPv4 networks (64:ff9b:1::/48), AWS's metadata (fd00:ec2::254).
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/32",  # Teredo: an IPv4 address inside, and one of a server
        "2001:db8::/32",
        "3fff::/20",
    )
)
_NAT64 = ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ip_network("2002::/16")

_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|\d+)", re.IGNORECASE)
_PORTS = frozenset({80, 443})
"""Ports under 1024 that speak HTTP; behind the others are services that would read a request as theirs."""


class AllowedPrivate:
    """Addresses and networks that may be reached although they are not public.

    Raises:
        ConfigurationError: One is neither.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        if isinstance(given, str):
            raise ConfigurationError(f"allow_private is {given!r}", hint=f"give a tuple: ({given!r},)")
        self.networks: list[Network] = []
        for one in given:
            try:
                self.networks.append(ip_network(one, strict=False))
            except (ValueError, TypeError):
                raise ConfigurationError(
                    f"allow_private: {brief(one, 80)} is no address",
                    hint='addresses and networks: ("127.0.0.1", "10.1.0.0/16")',
                ) from None

    def __contains__(self, address: object) -> bool:
        number = cast("Address", address)
        return any(number.version == one.version and number in one for one in self.networks)

    def __str__(self) -> str:
        return ",".join(map(str, self.networks))


def refusal(address: Address) -> str | None:
    """What an address is that keeps it from being connected to; None for a public one."""
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            found = refusal(inner)
            return None if found is None else f"{found} ({inner}, written as {address})"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address, where metadata of cloud machines is served"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified:
        return "no address of a machine"
    if not address.is_global or any(address.version == one.version and address in one for one in _NEVER):
        return "a private or reserved address"
    return None


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return None


def check_host(host: str) -> None:
    """Refuse hosts that are addresses in a disguise: `2130706433`, `0x7f.1` and `0177.0.0.1` are all 127.0.0.1.

    Raises:
        ToolError: It is one.
    """
    bare = host.strip("[]")
    if ":" in bare:
        if "%" in bare or not _is_address(bare):
            raise ToolError(f"{brief(host, 100)} is no address that can be fetched from")
        return
    if _NUMERIC.fullmatch(bare.rstrip(".").rpartition(".")[2]) and not _is_address(bare):
        raise ToolError(f"the host {brief(host, 100)} is an address in an unusual spelling: write it as 192.0.2.1")


def check_port(port: int) -> None:
    """
    Raises:
        ToolError: Something else than a web server is behind it.
    """
    if port not in _PORTS and port < 1024:
        raise ToolError(f"port {port} is not one that web pages are served from")


def checked(host: str, found: Sequence[str], allowed: AllowedPrivate) -> list[str]:
    """The addresses that a host stands for, all of which may be connected to.

    Raises:
        ToolError: One of them may not: then none is used.
    """
    addresses: list[str] = []
    for one in dict.fromkeys(found):
        try:
            number = ip_address(one.partition("%")[0])
        except ValueError:
            raise ToolError(f"{brief(host, 100)} has the address {brief(one, 80)}, which is none") from None
        problem = None if number in allowed or _unwrapped(number) in allowed else refusal(number)
        if problem is not None:
            raise ToolError(f"{brief(host, 100)} is at {number}: {problem}; it is not fetched from")
        addresses.append(str(number))
    if not addresses:
        raise ToolError(f"the name {brief(host, 100)} has no address")
    return addresses


def _unwrapped(address: Address) -> Address:
    return (_inner(address) or address) if isinstance(address, IPv6Address) else address


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
