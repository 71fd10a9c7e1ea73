"""A failure in words for people: what happened, where, and what to do."""

from __future__ import annotations

import re

from wherry.errors import ModelError
from wherry.models.api_key import ApiKey
from wherry.models.failures import Failure, FailureKind


def model_error(failure: Failure, *, model: str, where: str, key: ApiKey | None, key_variable: str) -> ModelError:
    """The error to raise for a failure. Its `diagnosis` has the failure's fields, `model` and `where`.

    Args:
        failure: What happened.
        model: The model's name.
        where: The server, as an address or a provider's name.
        key: The key that was sent.
        key_variable: The environment variable that a key for this server belongs in.
    """
    said = failure.detail if key is None else key.redact(failure.detail)
    message, hint = _words(failure, model, where, key, key_variable)
    if said and failure.kind is not FailureKind.ConnectionLost:
        message = f"{message}: {said}"
    diagnosis = {**failure.to_json(), "detail": said, "model": model, "where": where}
    return ModelError(message, kind=str(failure.kind), hint=hint, diagnosis=diagnosis)


def _words(failure: Failure, model: str, where: str, key: ApiKey | None, key_variable: str) -> tuple[str, str | None]:
    """The message and the hint."""
    match failure.kind:
        case FailureKind.ConnectionLost if failure.status is None and _NEVER_THERE.search(failure.detail):
            return f"no server answers at {where}", "is it running, and is the address right?"
        case FailureKind.ConnectionLost:
            return f"the server at {where} went away in the middle ({failure.detail})", "see the server's own log"
        case FailureKind.Timeout:
            return f"{where} did not answer in time", "a larger `timeout`, a smaller request, or a faster server"
        case FailureKind.Authentication:
            return _about_key(where, key, key_variable)
        case FailureKind.QuotaExhausted:
            which = "" if key is None else f" of the key {key.ending}"
            return f"the quota{which} at {where} is used up", "waiting does not help: see the account's plan"
        case FailureKind.RateLimited:
            wait = "" if failure.retry_after is None else f"; it asks to wait {failure.retry_after:g} s"
            return f"{where} limits the rate of requests{wait}", None
        case FailureKind.Overloaded:
            return f"{where} has too much to do, or is still loading the model", "try again in a while"
        case FailureKind.ContextOverflow:
            size = f" of {failure.requested} tokens" if failure.requested else ""
            limit = f" of {failure.limit} tokens" if failure.limit else ""
            return f"the request{size} does not fit the window{limit} of {model!r}", "set the model's `window`"
        case FailureKind.OutOfMemory:
            return f"the server at {where} ran out of memory", "a smaller context, fewer slots, or a smaller model"
        case FailureKind.ContentFiltered:
            return f"{where} filtered the request or its answer", None
        case FailureKind.BadRequest if failure.status == 404:
            return f"{where} does not know the model {model!r}", "check the model's name, and that the address is right"
        case FailureKind.BadRequest:
            return f"{where} refuses the request", None
        case FailureKind.ServerError:
            status = "" if failure.status in (None, 200) else f" (status {failure.status})"
            return f"the server at {where} failed{status}", None


def _about_key(where: str, key: ApiKey | None, key_variable: str) -> tuple[str, str]:
    if key is None:
        return f"{where} wants a key and none was sent", f"give api_key=..., or set {key_variable}"
    origin = "the argument api_key" if key.source == "api_key" else f"${key.source}"
    return f"{where} refuses the key {key.ending} (from {origin})", "check the key, and that it may use this model"


_NEVER_THERE = re.compile(
    r"refused|attempts failed|not known|resolution|getaddrinfo|no route|unreachable|connecterror", re.IGNORECASE
)
