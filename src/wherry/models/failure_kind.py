"""What a failure is: one of eleven kinds, and the numbers that came with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from wherry.errors import ModelError


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


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure, understood."""

    kind: FailureKind
    limit: int | None = None
    """Of an overflow: the tokens that fit, where the server said so."""
    requested: int | None = None
    """Of an overflow: the tokens that were asked for, prompt and output together."""
    retry_after: float | None = None
    """Seconds that the server asks to wait."""
    detail: str = ""
    """The server's own words, shortened."""
    status: int | None = None
    """The HTTP status, if it came so far."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What an exception means that a model raised: a `ModelError` says it itself, as far as it knows."""
        from wherry.models.failures import classify, classify_as  # not before something failed: it has many patterns

        if not isinstance(error, ModelError):
            return classify(error=error)
        known = error.diagnosis or {}
        kind = next((kind for kind in FailureKind if kind == error.kind), None)
        if kind is None or (kind is FailureKind.ServerError and "kind" not in known):
            # Raised with words alone, perhaps with somebody else's.
            return classify(error=error.message)
        if "kind" in known:
            return cls(
                kind,
                _whole(known.get("limit")),
                _whole(known.get("requested")),
                known.get("retry_after"),
                str(known.get("detail", error.message)),
                _whole(known.get("status")),
            )
        return classify_as(kind, error.message)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "limit": self.limit,
            "requested": self.requested,
            "retry_after": self.retry_after,
            "detail": self.detail,
            "status": self.status,
        }


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
