"""Asking a model something aside, as for the summary of what a window folds away: a small run of its own, below the run
that needs it.

It counts against the limits of that run, is admitted to the server like any other request, and is asked once: where it
fails, the extract takes its place at no cost, so nothing is tried again for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from wherry.agents.metering import end_failed, pricing, usage_of
from wherry.context import ContextBudget, TokenCounter
from wherry.errors import ModelError, WherryError
from wherry.journal import EventType, RunJournal
from wherry.messages import Usage
from wherry.models import Model, ModelProfile, ModelReply, ModelRequest
from wherry.models.call import Call, target
from wherry.policy import Account, Reservation
from wherry.policy.admission import backend_of

Ask = Callable[[ModelRequest], Awaitable[ModelReply]]


def summarizer(budget: ContextBudget, model: Model, journal: RunJournal, account: Account) -> Ask | None:
    """A function that asks for a summary, records what was asked and said, and counts what that took.

    Args:
        budget: Says who writes summaries, if not the run's own model.
        model: The run's own.
        journal: The run's.
        account: The run's.

    Returns:
        None where no model writes summaries: the budget wants extracts, or the run's own model is none to be asked.
    """
    writer = budget.summarizer or model
    if budget.compaction == "extract" or (budget.summarizer is None and not model.profile.writes_summaries):
        return None

    return aside(writer, journal, account, name="summarizer", kind="summary", task="summary of earlier turns")


def aside(model: Model, journal: RunJournal, account: Account, *, name: str, kind: str, task: str) -> Ask:
    """A function that asks a model one question each time, records what was asked and said, and counts what that took.

    Args:
        model: Who is asked.
        journal: Of the run that needs it.
        account: That run's.
        name: Whose the small run is, in the journal.
        kind: What is asked for, in a word.
        task: The same, in a few words.
    """

    async def ask(request: ModelRequest) -> ModelReply:
        with Call(f"{id(journal.tree):x}", store=journal.store, attempts=True) as call:
            return await _Aside(model, journal.child(name), Account(parent=account), call, kind, task).reply_to(request)

    return ask


class _Aside:
    """One question."""

    def __init__(self, model: Model, journal: RunJournal, account: Account, call: Call, kind: str, task: str) -> None:
        self._kind, self._task = kind, task
        self._model = model
        self._profile = target(model, call).profile
        self._journal = journal
        self._account = account
        self._call = call

    async def reply_to(self, request: ModelRequest) -> ModelReply:
        tokens = _count(request, self._profile)
        self._record_start()
        status, error = "failed", "cancelled"
        try:
            reply = await self._asked(request, tokens)
            status, error = "completed", None
        except Exception as failure:
            error = failure.message if isinstance(failure, WherryError) else f"{type(failure).__name__}: {failure}"
            kind = str(getattr(failure, "kind", type(failure).__name__))
            self._journal.record(EventType.MODEL_FAILED, step=1, kind=kind, message=error[:2000], act="give_up")
            raise
        finally:
            self._record_end(status, error)
        return reply

    async def _asked(self, request: ModelRequest, tokens: int) -> ModelReply:
        wanted = request.max_output or self._profile.max_output
        reservation = await self._account.reserve(tokens, wanted, pricing(self._profile))
        wanted = reservation.max_output  # the limits may leave less
        request = replace(request, max_output=wanted)
        self._record_request(request, tokens)
        backend = backend_of(target(self._model, self._call), self._profile)
        self._call.tokens = tokens + wanted
        try:
            await backend.gate.enter(tokens + wanted, self._call.owner)
        except BaseException:
            reservation.release()
            raise
        started = time.monotonic()
        try:
            reply = await self._model.complete(request)
        except BaseException as error:
            end_failed(reservation, error, time.monotonic() - started, self._profile)
            if not (isinstance(error, ModelError) and (error.diagnosis or {}).get("next_key")):
                raise
            reply = None
        finally:
            backend.gate.leave(tokens + wanted)
        if reply is None:
            return await self._asked(request, tokens)
        try:
            self._settle(reservation, reply, tokens, time.monotonic() - started)
        except BaseException as error:
            end_failed(reservation, error, time.monotonic() - started, self._profile)
            raise
        return reply

    def _settle(self, reservation: Reservation, reply: ModelReply, tokens: int, seconds: float) -> None:
        said = TokenCounter.for_profile(self._profile).message(reply.message())
        used = Usage(seconds=seconds) if reply.cached else usage_of(reply, tokens, said, seconds, self._profile)
        reservation.settle(used)
        self._journal.record(
            EventType.MODEL_REPLIED,
            step=1,
            message=self._journal.keep(reply.message()),
            usage=used.to_json(),
            seconds=round(seconds, 6),
            finish_reason=reply.finish_reason,
            model=reply.model or self._profile.name,
            estimated=reply.usage is None,
        )

    def _record_start(self) -> None:
        profile, own = self._profile, self._journal
        own.record(
            EventType.RUN_STARTED,
            task=self._task,
            kind=self._kind,
            model=profile.name,
            window=profile.window,
            tools=[],
            agents=[],
            tier=None,
            session=None,
            max_steps=1,
            versions={},
        )
        own.send()

    def _record_request(self, request: ModelRequest, tokens: int) -> None:
        own = self._journal
        own.record(
            EventType.MODEL_REQUESTED,
            step=1,
            keep=0,
            add=[own.keep(message) for message in request.messages],
            tools_digest="",
            max_output=request.max_output,
            tokens=tokens,
            window=self._profile.window,
        )
        own.send()

    def _record_end(self, status: str, error: str | None) -> None:
        self._journal.record(
            EventType.RUN_FINISHED,
            status=status,
            preview="",
            output=None,
            ref=None,
            usage=self._account.usage.to_json(),
            steps=1,
            error=None if error is None else error[:2000],
        )
        self._journal.send()


def _count(request: ModelRequest, profile: ModelProfile) -> int:
    counter = TokenCounter.for_profile(profile)
    total = counter.request + sum(counter.message(message) for message in request.messages)
    return total + (0 if request.response_format is None else counter.text(json.dumps(request.response_format)))
