"""Who asks: every API key is a client with limits and a journal of its own. Keys are known by their digests only."""

from __future__ import annotations

import os
import tomllib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any, cast

from wherry.errors import ConfigurationError
from wherry.guard.proxy.refusals import Refusal
from wherry.guard.proxy.settings import ProxySettings
from wherry.policy import Limits

ANONYMOUS = "anonymous"
"""Who shows no key."""
_MOST_STRANGERS = 1_000
_LIMITS = frozenset({"usd", "input_tokens", "output_tokens", "requests", "tool_calls"})


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever asks with one key."""

    name: str
    limits: Limits
    """Of a day."""
    own_key: bool
    """Whether the key is the client's own for the upstream, which is passed on, and not one of the proxy's."""


@dataclass(slots=True)
class Keys:
    """Tells clients by what they show, and strangers the door.

    Without files every key is let in, each as a client of its own: the upstream knows which are good.
    """

    token: bytes | None
    """SHA-256 of what everybody has to show."""
    limits: Limits
    known: Mapping[bytes, Client] | None = None
    """By the SHA-256 of the key; None: any key will do."""
    _strangers: OrderedDict[bytes, Client] = field(default_factory=OrderedDict[bytes, Client])

    @classmethod
    def of(cls, settings: ProxySettings) -> Keys:
        """As the settings say.

        Raises:
            ConfigurationError: A file of keys cannot be read, or says what cannot be.
        """
        token = None if settings.token is None else _digest(settings.token.reveal())
        known = _read_files(settings.keys, settings.limits) if settings.keys else None
        return cls(token, settings.limits, known)

    def client(self, headers: Mapping[str, str]) -> Client:
        """Who sent a request with these headers.

        Raises:
            Refusal: Nobody who may ask.
        """
        shown = shown_key(headers)
        digest = None if shown is None else _digest(shown)
        if self.known is not None:
            found = None if digest is None else self.known.get(digest)
            if found is None:
                raise Refusal(
                    401,
                    "no API key was sent" if shown is None else "this API key is not known here",
                    code="invalid_api_key",
                )
            if self.token is not None and not self._has_token(headers, None):
                raise Refusal(401, "the header x-wherry-token has to carry the proxy's token", code="invalid_token")
            return found
        if self.token is not None:
            if not self._has_token(headers, digest):
                raise Refusal(
                    401,
                    "this proxy wants its token: as the API key, or in the header x-wherry-token",
                    code="invalid_token",
                )
            if digest is not None and compare_digest(digest, self.token):
                return Client("token", self.limits, own_key=False)
        return self._stranger(digest)

    def _has_token(self, headers: Mapping[str, str], digest: bytes | None) -> bool:
        token = cast("bytes", self.token)
        shown = headers.get("x-wherry-token")
        if shown is not None and compare_digest(_digest(shown), token):
            return True
        return digest is not None and compare_digest(digest, token)

    def _stranger(self, digest: bytes | None) -> Client:
        if digest is None:
            return Client(ANONYMOUS, self.limits, own_key=True)
        found = self._strangers.get(digest)
        if found is None:
            # Told apart by a digest of the digest: not even the ending of somebody's key is written down.
            found = Client(f"key-{sha256(digest).hexdigest()[:10]}", self.limits, own_key=True)
            self._strangers[digest] = found
            if len(self._strangers) > _MOST_STRANGERS:
                self._strangers.popitem(last=False)
        return found


def shown_key(headers: Mapping[str, str]) -> str | None:
    """The API key in a request's headers, as OpenAI's, Azure's or Anthropic's clients send it."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    for name in ("x-api-key", "api-key"):
        if value := headers.get(name, "").strip():
            return value
    return None


def _digest(key: str) -> bytes:
    return sha256(key.strip().encode("utf-8", "surrogateescape")).digest()


def _read_files(paths: Iterable[Path], limits: Limits) -> dict[bytes, Client]:
    known: dict[bytes, Client] = {}
    names: set[str] = set()
    for path in paths:
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(f"the keys in {path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is no TOML: {error}", hint=_EXAMPLE) from None
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise ConfigurationError(f"{path}: {name!r} is no table", hint=_EXAMPLE)
            digest, client = _client(path, name, cast("dict[str, Any]", table), limits)
            if digest in known or name in names:
                raise ConfigurationError(f"{path}: {name!r} has the name or the key of another client")
            known[digest] = client
            names.add(name)
    if not known:
        raise ConfigurationError("the files of keys have none", hint=_EXAMPLE)
    return known


_EXAMPLE = 'a table a client: [ann] key_env = "ANN_KEY" or sha256 = "..." or key = "...", limits = { usd = "5.00" }'


def _client(path: Path, name: str, table: dict[str, Any], limits: Limits) -> tuple[bytes, Client]:
    where = f"{path}: [{name}]"
    if unknown := sorted(table.keys() - {"key", "key_env", "sha256", "limits"}):
        raise ConfigurationError(f"{where} has {unknown[0]!r}, which nothing reads", hint=_EXAMPLE)
    if len(table.keys() & {"key", "key_env", "sha256"}) != 1:
        raise ConfigurationError(f"{where} needs one of key, key_env and sha256", hint=_EXAMPLE)
    if "sha256" in table:
        try:
            digest = bytes.fromhex(str(table["sha256"]))
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise ConfigurationError(f"{where}: sha256 is not 64 hexadecimal digits", hint="printf %s KEY | sha256sum")
    else:
        key = os.environ.get(str(table["key_env"]), "") if "key_env" in table else table["key"]
        if not isinstance(key, str) or len(key.strip()) < 8:
            why = (
                f"the environment has no {table['key_env']}"
                if "key_env" in table
                else "the key is no text of 8 or more"
            )
            raise ConfigurationError(f"{where}: {why}")
        digest = _digest(key)
    given = table.get("limits")
    if given is None:
        return digest, Client(name, limits, own_key=False)
    if not isinstance(given, dict) or (wrong := sorted(cast("dict[str, Any]", given).keys() - _LIMITS)):
        raise ConfigurationError(f"{where}: limits are {', '.join(sorted(_LIMITS))}", hint=_EXAMPLE)
    del wrong
    return digest, Client(name, Limits(**cast("dict[str, Any]", given)), own_key=False)
