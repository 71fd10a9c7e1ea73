"""An API key that does not show itself."""

from __future__ import annotations

from wherry.errors import ConfigurationError
from wherry.redaction import ending, hold


class ApiKey:
    """A key and where it came from. Its text is in no repr, message or traceback of wherry's."""

    __slots__ = ("__weakref__", "_value", "source")

    def __init__(self, value: str, source: str) -> None:
        # Blanks around a key come from a copied line, and make a header that no HTTP client sends.
        self._value = value.strip()
        if not (self._value.isascii() and self._value.isprintable()):
            raise ConfigurationError(f"the key in {source} has characters that no key has", hint="copy it again")
        hold(self._value, self)
        self.source = source
        """`"api_key"`, or the environment variable."""

    def reveal(self) -> str:
        return self._value

    @property
    def ending(self) -> str:
        """The key's last four characters, as people tell keys apart; nothing of a key that is short."""
        return ending(self._value)

    def redact(self, text: str) -> str:
        """The text without the key: some servers repeat it in their answer."""
        return text.replace(self._value, self.ending) if len(self._value) >= 6 else text

    def __repr__(self) -> str:
        return f"ApiKey({self.ending!r}, {self.source!r})"

    def __reduce__(self) -> str:
        raise TypeError("an API key is not pickled: give it anew in the other process")
