"""The eleven kinds of failure."""

from __future__ import annotations

from enum import StrEnum


class FailureKind(StrEnum):
    """What a failure calls for."""

    ContextOverflow = "ContextOverflow"
    """The request is larger than the server takes: make it smaller."""
    OutOfMemory = "OutOfMemory"
    """The server has no memory for it, or died of it: make it smaller, and wait until it is healthy."""
    RateLimited = "RateLimited"
    """Too much in this minute or day: wait."""
    QuotaExhausted = "QuotaExhausted"
    """Somebody has to pay; waiting does not help."""
    Overloaded = "Overloaded"
    """The server has too much to do, or is still loading: wait."""
    Timeout = "Timeout"
    ConnectionLost = "ConnectionLost"
    """The server is not there, or went away in the middle."""
    Authentication = "Authentication"
    """The key is wrong, or may not do this."""
    BadRequest = "BadRequest"
    """The request will never be answered as it is."""
    ContentFiltered = "ContentFiltered"
    ServerError = "ServerError"
    """A fault of the server that says nothing more."""
