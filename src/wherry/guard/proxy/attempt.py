"""A request that was sent, and what came of it: what is set aside for it, and how that ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from wherry.guard.proxy.bounding import Ready
from wherry.guard.proxy.diary import Conversation, Diary, KeyDay
from wherry.guard.proxy.formats import Body, Said
from wherry.guard.proxy.metrics import Metrics
from wherry.guard.proxy.settings import ProxySettings
from wherry.guard.proxy.upstream import Place, Upstream
from wherry.messages import Usage
from wherry.models.failures import Failure, FailureKind
from wherry.models.pricing import cost
from wherry.policy import Reservation
from wherry.policy.recovery import Recovery
from wherry.redaction import redact

if TYPE_CHECKING:
    from aiohttp import ClientResponse

RECOVERY = Recovery(retries=2, waits=4, patience=120.0, health=30.0)
"""Clients wait at the other end, most for ten minutes at the longest, and try again by themselves."""
_UNKNOWN_ENDS = frozenset({FailureKind.Timeout, FailureKind.ConnectionLost})


@dataclass(slots=True)
class Work:
    """What requests share."""

    settings: ProxySettings
    upstreams: Sequence[Upstream]
    diary: Diary
    metrics: Metrics
    recovery: Recovery = RECOVERY


@dataclass(slots=True)
class Attempt:
    """A request that was sent, with what is set aside for it. It ends in exactly one way."""

    work: Work
    day: KeyDay
    upstream: Upstream
    place: Place
    ready: Ready
    reservation: Reservation
    conversation: Conversation | None
    step: int
    started: float
    admitted: int
    over: bool = False

    def settle(self, said: Said, *, text_bytes: int = 0) -> None:
        """It was answered."""
        if self.over:
            return
        seconds = self._leave()
        told = said.usage
        if told is None:
            tokens = self.place.counter.message(said.message) if said.message is not None else text_bytes // 4
            told = Usage(input_tokens=self.ready.tokens, output_tokens=tokens)
        elif told.input_tokens:
            counted = int(self.ready.tokens / self.place.counter.ratio)
            self.place.counter.report(counted, told.input_tokens)
        price = cost(told, self.place.price_key)
        usage = Usage(1, told.input_tokens, told.cached_tokens, told.output_tokens, 0, seconds, price)
        self.reservation.settle(usage)
        self.place.backend.answered()
        self._booked(usage)
        if self.conversation is not None:
            self.conversation.replied(
                self.step,
                said.message,
                usage,
                estimated=said.usage is None,
                finish_reason=said.finish,
                model=said.model or self.place.known_as,
            )
            self._closed(self.conversation)

    def fail(self, failure: Failure, act: str, *, wait: float = 0.0) -> None:
        """It was not answered, or not to the end."""
        if self.over:
            return
        seconds = self._leave()
        if failure.kind in _UNKNOWN_ENDS or act == "cut":
            free = cost(Usage(input_tokens=1, output_tokens=1), self.place.price_key) == 0
            usage = Usage(requests=1, seconds=seconds, usd=Decimal(0) if free else None)
            self.reservation.lose(usage)
        else:
            usage = Usage(requests=1, seconds=seconds)
            self.reservation.settle(usage)
        self._booked(usage)
        self.work.metrics.count("upstream_failures_total", kind=str(failure.kind), act=act)
        if self.conversation is not None:
            self.conversation.failed(
                self.step,
                kind=str(failure.kind),
                message=redact(failure.detail),
                act=act,
                wait=wait,
                limit=failure.limit,
                requested=failure.requested,
                upstream=self.upstream.url,
                usage=usage,
            )
            self._closed(self.conversation)

    def _leave(self) -> float:
        self.over = True
        self.place.backend.gate.leave(self.admitted)
        return time.monotonic() - self.started

    def _booked(self, usage: Usage) -> None:
        self.day.usage += usage
        name = self.day.client.name
        self.work.metrics.count("tokens_total", usage.input_tokens, key=name, direction="input")
        self.work.metrics.count("tokens_total", usage.output_tokens, key=name, direction="output")

    def _closed(self, conversation: Conversation) -> None:
        conversation.under_way -= 1
        self.work.diary.touch(conversation.journal)


@dataclass(slots=True)
class Answer:
    """What a server said: whole, or the beginning of a stream."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    parsed: Body | None = None
    """Of a whole reply."""
    response: ClientResponse | None = None
    """Of a stream: where it goes on."""
    attempt: Attempt | None = None
    """None: nobody answered, and `body` says what went wrong."""
