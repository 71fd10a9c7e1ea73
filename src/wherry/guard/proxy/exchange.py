"""One request of a client's, until a server has answered it or nobody does: fitted, paid for, admitted, tried again."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import cast

from wherry.errors import ConfigurationError, ContextBudgetError, LimitReached
from wherry.guard.proxy.attempt import Answer, Attempt, Work
from wherry.guard.proxy.bounding import LEAST_OUTPUT, Asked, Ready, make_ready, write
from wherry.guard.proxy.diary import Conversation, KeyDay
from wherry.guard.proxy.formats import Body
from wherry.guard.proxy.headers import back, onward
from wherry.guard.proxy.keys import shown_key
from wherry.guard.proxy.refusals import Refusal
from wherry.guard.proxy.streams import first_events
from wherry.guard.proxy.upstream import Place, Upstream
from wherry.messages import Usage
from wherry.models.failures import Failure, FailureKind, classify
from wherry.models.pricing import cost
from wherry.policy.recovery import Decision, Trouble
from wherry.redaction import SHORTEST, ending, redact_bytes

REST_SECONDS = 30.0
"""That an upstream which failed is asked last."""
_TURN_AT_ONCE = frozenset(
    {
        FailureKind.RateLimited,
        FailureKind.Overloaded,
        FailureKind.Timeout,
        FailureKind.ConnectionLost,
        FailureKind.ServerError,
    }
)
"""Where there is another server, nobody waits for one that has no time."""
_STAY = frozenset({FailureKind.BadRequest, FailureKind.ContentFiltered})
"""What another server would say too."""
_MOST_OF_AN_ERROR = 1_000_000


class _Failed(Exception):
    def __init__(self, failure: Failure, answer: Answer | None = None) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.answer = answer
        """What the server said, to be passed on if nothing helps."""


@dataclass(slots=True)
class Exchange:
    """A client's request, on its way."""

    work: Work
    asked: Asked
    day: KeyDay
    headers: Mapping[str, str]
    artifacts: bool = False
    """Whether what is too large is kept, to be read with tools."""
    arrived: float = field(default_factory=time.monotonic)
    tried: list[str] = field(default_factory=list[str])
    asked_before: bool = False

    async def answer(self) -> Answer:
        """The first good answer, or the last bad one.

        Raises:
            Refusal: Nothing was sent, or nobody answered.
        """
        order = sorted(self.work.upstreams, key=lambda one: one.resting)
        failed: _Failed | None = None
        for position, upstream in enumerate(order):
            try:
                return await self._ask(upstream, last=position + 1 == len(order))
            except _Failed as error:
                failed = error
                if error.failure.kind in _STAY:
                    break
                upstream.rest(min(error.failure.retry_after or REST_SECONDS, 600.0))
        if failed is None:
            raise RuntimeError("there is no upstream")
        if failed.answer is not None:
            return failed.answer
        raise self._unanswered(failed.failure)

    async def _ask(self, upstream: Upstream, *, last: bool) -> Answer:
        """Ask one server, and again as the recovery policy says."""
        recovery = self.work.recovery
        headers = onward(
            self.headers,
            upstream,
            own_key=self.day.client.own_key,
            first=self.work.upstreams[0],
            shape=self.asked.format.shape,
        )
        place = await upstream.place(upstream.spec.model or self.asked.model, headers)
        trouble: Trouble | None = None
        room = place.window
        while True:
            window = place.backend.window(min(room, place.window))
            try:
                ready = await self._fitted(upstream, place, window)
            except ContextBudgetError as error:
                raise Refusal(400, str(error), code="context_length_exceeded") from None
            attempt = await self._admitted(upstream, place, ready)
            try:
                return await self._sent(attempt, headers)
            except _Failed as error:
                failed = error
            except BaseException:  # the client has gone
                attempt.fail(Failure(FailureKind.ConnectionLost, detail="the client went away"), "cut")
                raise
            failure = failed.failure
            if trouble is None:
                trouble = Trouble(window, 0, jitter=random.Random())  # noqa: S311 - spreads attempts, hides nothing
            trouble.window, trouble.asked = window, ready.tokens + ready.output
            trouble.counts[failure.kind] += 1
            if self._adapted(upstream, ready, failure):
                attempt.fail(failure, "retry")
                continue
            decision = recovery.decide(failure, trouble)
            if not last and failure.kind in _TURN_AT_ONCE:
                decision = Decision("give_up", why="another upstream is there")
            room = self._prepared(decision, failure, place, trouble, room)
            attempt.fail(failure, decision.act, wait=decision.wait)
            self.tried.append(f"{failure.kind} at {upstream.url}: {decision.why or decision.act}")
            if decision.act == "give_up":
                raise failed
            trouble.waited += decision.wait
            if decision.wait > 0:
                await recovery.sleep(decision.wait)
            seconds = recovery.health if place.backend.met else recovery.first_contact
            if decision.check_health and not await upstream.healthy(seconds):
                raise failed

    async def _fitted(self, upstream: Upstream, place: Place, window: int) -> Ready:
        ready = await make_ready(
            self.asked,
            upstream,
            place,
            window,
            strict=self.work.settings.strict,
            artifacts=self.work.diary.store.artifacts if self.artifacts and self.work.diary.store else None,
            run_id=self.day.run_id,
        )
        for kind in ready.changes:
            self.work.metrics.count("changed_total", what=kind)
        return ready

    async def _admitted(self, upstream: Upstream, place: Place, ready: Ready) -> Attempt:
        """Wait until the limits and the server have room, and record that it is sent."""
        many = self.asked.choices

        def price(input_tokens: int, output_tokens: int) -> Decimal | None:
            return cost(Usage(input_tokens=input_tokens, output_tokens=output_tokens), place.price_key)

        try:
            reservation = await self.day.account.reserve(ready.tokens, ready.output * many, price)
        except LimitReached as error:
            raise self.limited(error) from None
        except ConfigurationError as error:
            raise Refusal(400, f"{error.message} ({place.known_as!r})", code="price_not_known") from None
        if reservation.max_output < ready.output * many:
            least = max(reservation.max_output // many, 1)
            ready = _with_output(self.asked, upstream, ready, least)
        admitted = ready.tokens + ready.output
        admitted = min(admitted, place.backend.gate.capacity or admitted)
        try:
            await place.backend.gate.enter(admitted, self.day.client.name)
        except BaseException:
            reservation.release()
            raise
        try:
            conversation, step = self._noted(upstream, ready)
        except BaseException:  # nothing of a request that fails here may stay set aside
            place.backend.gate.leave(admitted)
            reservation.release()
            raise
        if not self.asked_before:
            self.asked_before = True
            self.work.metrics.observe("own_seconds", time.monotonic() - self.arrived)
        return Attempt(
            self.work, self.day, upstream, place, ready, reservation, conversation, step, time.monotonic(), admitted
        )

    def _noted(self, upstream: Upstream, ready: Ready) -> tuple[Conversation | None, int]:
        """Where it is written down that this is sent, and its number there."""
        diary = self.work.diary
        conversation = diary.conversation(self.day, self.asked.messages, self.asked.system)
        if conversation is None:
            return None, 0
        step = conversation.requested(
            ready.messages,
            ready.tools,
            system=ready.system,
            style=self.asked.format.style,
            max_output=ready.output,
            tokens=ready.tokens,
            tools=0,
            window=ready.window,
            changes=dict(ready.changes),
            upstream=upstream.url,
        )
        conversation.under_way += 1
        diary.touch(conversation.journal)
        return conversation, step

    async def _sent(self, attempt: Attempt, headers: Mapping[str, str]) -> Answer:
        """The server's answer.

        Raises:
            _Failed: It is none, or says that something went wrong.
        """
        from aiohttp import ClientError

        upstream, settings = attempt.upstream, self.work.settings
        try:
            response = await upstream.post(self.asked.format.path, attempt.ready.data, headers)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            raise _Failed(classify(error=error)) from error
        try:
            passed = back(response.headers.items())
            if response.status != 200:
                body = self._masked(
                    await first_events(response, settings.first_token_seconds, _MOST_OF_AN_ERROR, all_of_it=True)
                )
                failure = classify(status=response.status, body=body, headers=response.headers)
                raise _Failed(failure, Answer(response.status, passed, body))  # noqa: TRY301
            if self.asked.stream and response.content_type == "text/event-stream":
                first = await first_events(response, settings.first_token_seconds, 65_536)
                if not first:
                    lost = Failure(FailureKind.ConnectionLost, detail="the server ended its stream before it began")
                    raise _Failed(lost)  # noqa: TRY301
                if (failure := _error_in_stream(self._masked(first))) is not None:
                    raise _Failed(failure)  # noqa: TRY301
                return Answer(200, passed, first, response=response, attempt=attempt)
            body = await first_events(response, settings.first_token_seconds, -1, all_of_it=True)
        except (ClientError, TimeoutError, OSError) as error:
            response.close()
            raise _Failed(classify(error=error)) from error
        except BaseException:
            response.close()
            raise
        response.release()
        parsed = _parsed(body)
        if parsed is not None and parsed.get("error") and "choices" not in parsed:
            masked = self._masked(body)
            raise _Failed(classify(status=200, body=masked), Answer(502, passed, masked))
        return Answer(200, passed, body, parsed=parsed, attempt=attempt)

    def _masked(self, body: bytes) -> bytes:
        """What a server says of a failure, without the key that it was sent: some repeat it."""
        key = shown_key(self.headers)
        if key is not None and len(key) >= SHORTEST:
            body = body.replace(key.encode("utf-8", "surrogateescape"), ending(key).encode())
        return redact_bytes(body)

    def limited(self, error: LimitReached) -> Refusal:
        """What a client is told whose key has spent what it may."""
        self.work.metrics.count("limited_total", key=self.day.client.name, limit=error.limit)
        self.work.diary.limit_reached(self.day, error.limit, error.value)
        return Refusal(
            429,
            f"the limit of {error.value} {error.limit} a day of the key {self.day.client.name!r} is reached; "
            "it begins anew at midnight UTC",
            code="limit_reached",
        )

    def _adapted(self, upstream: Upstream, ready: Ready, failure: Failure) -> bool:
        """Whether the server refused what was only asked for here."""
        if failure.kind is FailureKind.BadRequest and ready.usage_asked and "stream_options" in failure.detail:
            upstream.tells_usage = False
            return True
        return False

    def _prepared(self, decision: Decision, failure: Failure, place: Place, trouble: Trouble, room: int) -> int:
        """Let what was learned hold for everyone; the largest request from now on."""
        if failure.kind is FailureKind.ContextOverflow and failure.limit is not None and failure.limit < trouble.window:
            place.backend.learn(failure.limit)
        if decision.act == "shrink":
            return min(room, cast("int", decision.window))
        if decision.act == "halve":
            return place.backend.halve(trouble.window)[0]
        return room

    def _unanswered(self, failure: Failure) -> Refusal:
        status = 504 if failure.kind is FailureKind.Timeout else 502
        tried = f" (tried: {'; '.join(self.tried)})" if self.tried else ""
        code = "upstream_timeout" if status == 504 else "upstream_unreachable"
        return Refusal(status, f"no upstream answered: {failure.detail or failure.kind}{tried}", code=code)


def _with_output(asked: Asked, upstream: Upstream, ready: Ready, output: int) -> Ready:
    """The same request with a shorter reply, since that is all that the limits leave."""
    from wherry.guard import Fitted

    fitted = Fitted(
        [dict(message) for message in ready.messages],
        ready.tokens,
        output,
        ready.window,
        ready.changed,
        (),
        ready.system,
    )
    written = write(asked, upstream, fitted, output=max(output, min(LEAST_OUTPUT, output)), window=ready.window)
    return replace(written, changes=ready.changes)


def _parsed(body: bytes) -> Body | None:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("Body", parsed) if isinstance(parsed, dict) else None


def _error_in_stream(first: bytes) -> Failure | None:
    """The failure that a stream begins with, if it does: its status was 200 before anything went wrong."""
    if b"error" not in first[:2_000]:
        return None
    from wherry.models.sse import EventDecoder

    decoder = EventDecoder()
    for data in decoder.feed(first) + decoder.finish():
        event = _parsed(data.encode())
        if event is not None and (event.get("error") or event.get("type") == "error"):
            return classify(status=200, body=event)
    return None
