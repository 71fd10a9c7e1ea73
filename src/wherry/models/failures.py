"""What a failed request means: one of eleven kinds, read out of whatever the server or the network said.

The order matters, because answers overlap: a bare status is never enough. 429 may mean wait, shrink or pay; 500 may be
an overflow, no memory or a dead engine; 200 may hide an error event; "too many tokens" may be a rate. So the shape of
the messages and authentication are looked at first, then codes that a machine wrote, then texts, then the status.
"""

from __future__ import annotations

from collections.abc import Mapping

from wherry.models.failure_evidence import Evidence, gather
from wherry.models.failure_kind import Failure, FailureKind
from wherry.models.failure_numbers import asked_of_rate, token_counts, wait_seconds
from wherry.models.failure_tables import (
    CODE_WORDS,
    CODES,
    NETWORK,
    OUTPUT_BOUND,
    SERVER_TALKS_OF_TOOLS,
    SHAPE_AND_KEYS,
    STATUS,
    TEXTS,
    WAIT_ASKED,
    WINDOW,
    Texts,
)

__all__ = ["Failure", "FailureKind", "classify"]


def classify(
    *,
    status: int | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    error: BaseException | str | None = None,
) -> Failure:
    """What a failure means.

    Args:
        status: The HTTP status, if there was an answer.
        body: The answer: parsed JSON, text or bytes; also an exception's text, or the events of a stream.
        headers: The answer's headers, for the time to wait.
        error: The exception, or its text; causes are looked at too.

    Give what there is. Never raises; what says nothing is a `ServerError`.
    """
    evidence = gather(status=status, body=body, headers=headers, error=error)
    return _failure(_kind(evidence), evidence)


def classify_as(kind: FailureKind, text: str) -> Failure:
    """The numbers of a failure whose kind is known, read out of its text."""
    return _failure(kind, gather(status=None, body=None, headers=None, error=text))


def _failure(kind: FailureKind, evidence: Evidence) -> Failure:
    limit = requested = retry_after = None
    if kind is FailureKind.ContextOverflow:
        limit, requested = asked_of_rate(evidence.text) or token_counts(evidence.text, evidence.numbers)
    elif kind in _WORTH_WAITING:
        retry_after = wait_seconds(evidence.headers, f"{evidence.text} | {evidence.raised}")
    return Failure(kind, limit, requested, retry_after, _shortened(evidence.detail), evidence.status)


_WORTH_WAITING = (
    FailureKind.RateLimited,
    FailureKind.Overloaded,
    FailureKind.Timeout,
    FailureKind.ServerError,
    FailureKind.QuotaExhausted,
)
_DETAIL = 500
_MAYBE_NETWORK = (None, 200, 408, 500, 502, 504, 599)
"""Statuses under which a text about connections is the server's own trouble with one."""


def _kind(evidence: Evidence) -> FailureKind:
    status, text, codes = evidence.status, evidence.text, evidence.codes
    codes = codes | evidence.names
    about_window = WINDOW.search(text) is not None

    bound = _match(OUTPUT_BOUND, text)
    if bound is not None:
        return bound
    coded = next((kind for kind, words in CODES if codes & words), None)
    if coded is None:
        written = " ".join(code for code in evidence.codes if " " not in code)
        coded = _match(CODE_WORDS, written)
    if coded is FailureKind.ContentFiltered:
        return coded
    if status == 402 and coded is not FailureKind.RateLimited:
        return FailureKind.QuotaExhausted
    if (
        coded is not FailureKind.ContextOverflow
        and not about_window
        and (shape := _match(SHAPE_AND_KEYS, text)) is not None
    ):
        # "Project does not have access to model": 403 is about the key, whatever the code says.
        return FailureKind.Authentication if shape is FailureKind.BadRequest and status in (401, 403) else shape
    if (
        status in (401, 403)
        and coded not in (FailureKind.QuotaExhausted, FailureKind.RateLimited, FailureKind.ContextOverflow)
        and _match(TEXTS, text) not in (FailureKind.QuotaExhausted, FailureKind.RateLimited)
    ):
        return FailureKind.Authentication

    rate = asked_of_rate(text)
    if rate is not None and rate[1] > rate[0]:
        return FailureKind.ContextOverflow  # more than a whole minute's tokens: waiting never helps, it must shrink
    if coded is FailureKind.QuotaExhausted and WAIT_ASKED.search(text):
        return FailureKind.RateLimited
    if coded is not None:
        return coded

    said = _match(TEXTS, text) or _match(TEXTS, evidence.raised)
    if said is FailureKind.RateLimited and about_window and status not in (429, 503):
        return FailureKind.ContextOverflow
    if said is FailureKind.ContextOverflow and status == 429 and WAIT_ASKED.search(text):
        return FailureKind.RateLimited
    if said is FailureKind.QuotaExhausted and (WAIT_ASKED.search(text) or "retry-after" in evidence.headers):
        return FailureKind.RateLimited  # Gemini calls a full minute a quota, and says when it is over
    if said is not None:
        return said
    network = _match(NETWORK, text) or _match(NETWORK, evidence.raised)
    if status in _MAYBE_NETWORK and network is not None:
        return network
    if status in (None, 200, 500) and "timeouterror" in evidence.names:
        return FailureKind.Timeout
    if status in (None, 200, 500) and evidence.names & {"connectionerror", "oserror", "eoferror", "apiconnectionerror"}:
        return FailureKind.ConnectionLost
    if status is not None:
        if status >= 500 and SERVER_TALKS_OF_TOOLS.search(text):
            return FailureKind.BadRequest
        if status in STATUS:
            return STATUS[status]
        if 300 <= status < 500:
            return FailureKind.BadRequest
    return FailureKind.ServerError


def _match(table: Texts, text: str) -> FailureKind | None:
    return next((kind for kind, pattern in table if pattern.search(text)), None)


def _shortened(text: str) -> str:
    return text if len(text) <= _DETAIL else text[: _DETAIL - 1] + "…"
