"""Where a model's server is: what an address says of it, and which key it may have."""

from __future__ import annotations

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

from wherry.errors import ConfigurationError
from wherry.models.api_key import ApiKey
from wherry.models.key_ring import KeyRing

OPENAI = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"


def default_output(window: int | None, *, reasoning: bool) -> int:
    """Tokens of a reply when nobody says: an eighth of the window, 1,024 to 4,096, or 16,384 where thinking counts."""
    if window is None:
        return 1024
    return max(min(1024, window // 2), min(16_384 if reasoning else 4096, window // 8))


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_openai(url: str) -> bool:
    """Whether the host is OpenAI's own, or Azure's of it."""
    host = urlsplit(url).hostname or ""
    return host == "api.openai.com" or host.endswith((".api.openai.com", ".openai.azure.com", ".services.ai.azure.com"))


def checked_url(url: str) -> str:
    """The address without its trailing slash.

    Raises:
        ConfigurationError: It is none, or has a password in it.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{url!r} is no address of a server", hint="http://host:port/v1, or https://host/v1; no #name here"
        )
    if parts.username or parts.password:
        raise ConfigurationError("base_url has a user or password in it", hint="give api_key=... or headers=...")
    return url.strip().partition("#")[0].rstrip("/")


def root_of(url: str) -> str:
    """The server, without the part of the address that is OpenAI's interface."""
    return url.removesuffix("/").removesuffix("/v1").removesuffix("/openai")


def key_for(url: str, given: str | KeyRing | None, *, from_environment: bool) -> KeyRing | None:
    """The keys to send to a server.

    Args:
        url: The server.
        given: The user's.
        from_environment: Whether the address came from the environment, as the key may then too.

    Raises:
        ConfigurationError: OpenAI wants one and there is none, or it has characters that no header carries.
    """
    if isinstance(given, KeyRing):
        return given
    if given is not None and given.strip():
        return KeyRing(given)
    if (from_environment or is_openai(url)) and (value := os.environ.get(KEY_VARIABLE, "").strip()):
        return KeyRing.of(ApiKey(value, KEY_VARIABLE))
    if is_openai(url):
        raise ConfigurationError(f"no key for {url}", hint=f"set {KEY_VARIABLE}, or give api_key=...")
    return None


def positive(**values: float | None) -> None:
    """Refuse numbers that are not over 0, by name."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigurationError(f"{name} is {value!r}; it must be over 0")
