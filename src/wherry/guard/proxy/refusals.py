"""What the proxy says no to, in the shape that the client's SDK reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from wherry.redaction import redact

Shape = Literal["openai", "anthropic"]

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "insufficient_quota"}
# https://docs.anthropic.com/en/api/errors (November 2026)
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Refusal(Exception):
    """A request that ends here: it was not sent, or nobody answered it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        """For programs."""
        self.headers = dict(headers or {})
        self.close = close
        """Whether the connection ends with it: the rest of the request is not worth reading."""
        if status in (401, 403, 413) or code == "limit_reached":
            self.headers.setdefault("x-should-retry", "false")  # both SDKs look at it before they try 429 again

    def body(self, shape: Shape) -> bytes:
        """The answer's JSON."""
        message = redact(self.message)
        if shape == "anthropic":
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")
            error: dict[str, object] = {"type": "error", "error": {"type": kind, "message": message}}
        else:
            kind = _OPENAI_TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
            error = {"error": {"message": message, "type": kind, "param": None, "code": self.code}}
        return json.dumps(error).encode()
