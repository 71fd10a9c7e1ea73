"""Signatures over exports: whose they are, for readers who must not be able to make them.

Ed25519, not an HMAC: with an HMAC whoever can check can also forge, and an auditor's word that nothing was changed is
worth little then. The key is a file as `openssl genpkey -algorithm ed25519` makes it, so that it can come from, and
its public half be checked with, tools that have nothing to do with wherry.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "Ed25519"


class SigningKey:
    """A private key. Its text is in no repr."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def create(cls, path: Path) -> SigningKey:
        """Make a key and write it to a new file that its owner alone can read (PEM, PKCS 8, not encrypted).

        Raises:
            ConfigurationError: There is a file already, or it cannot be written.
            MissingExtra: `cryptography` is not installed.
        """
        _needed()
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
        except OSError as error:
            raise ConfigurationError(f"the key {str(path)!r} cannot be made: {error.strerror}") from error
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key from its file.

        Raises:
            ConfigurationError: There is no such file, or it holds no private Ed25519 key without a password.
            MissingExtra: `cryptography` is not installed.
        """
        _needed()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise ConfigurationError(f"the key {str(path)!r} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"{str(path)!r} is no private key: {error}", hint=_HINT) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError(f"{str(path)!r} is a key of another kind than {ALGORITHM}", hint=_HINT)
        return cls(private)

    @property
    def public(self) -> str:
        """The public half, 64 hexadecimal digits: what auditors are given, by another way than the export."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


def signed_by(public: str, data: bytes, signature: bytes) -> bool:
    """Whether the owner of a public key signed these bytes.

    Raises:
        ConfigurationError: `public` is no public key.
        MissingExtra: `cryptography` is not installed.
    """
    _needed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    except ValueError as error:
        raise ConfigurationError(f"{public!r} is no public key: that is 64 hexadecimal digits") from error
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


_HINT = "make one with `openssl genpkey -algorithm ed25519 -out key.pem`"


def _needed() -> None:
    try:
        import cryptography  # noqa: F401  # pyright: ignore[reportUnusedImport] - whether it is there
    except ImportError:
        raise MissingExtra("signing", "audit") from None
