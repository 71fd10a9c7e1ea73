"""Asking a model for the summary of what a window folds away: a small run of its own, below the run that needs it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from wherry.agents.metering import usage_of
from wherry.errors import ModelError
from wherry.journal import EventType, RunJournal
from wherry.models import Model, ModelReply, ModelRequest
from wherry.policy import Account


def summarizer(model: Model, journal: RunJournal, account: Account) -> Callable[[ModelRequest], Awaitable[ModelReply]]:
    """A function that asks `model`, records what it was asked and what it said, and counts what that took."""

    async def ask(request: ModelRequest) -> ModelReply:
        own = journal.child("summarizer")
        own.record(
            EventType.RUN_STARTED,
            task="summary of earlier turns",
            kind="summary",
            model=model.profile.name,
            window=model.profile.window,
            tools=[],
            agents=[],
            tier=None,
            session=None,
            max_steps=1,
            versions={},
        )
        own.record(
            EventType.MODEL_REQUESTED,
            step=1,
            keep=0,
            add=[own.keep(message) for message in request.messages],
            tools_digest="",
            max_output=request.max_output,
            tokens=0,
            window=model.profile.window,
        )
        own.send()
        started = time.monotonic()
        status, error = "failed", "cancelled"
        counted = Account(parent=account)
        try:
            reply = await model.complete(request)
            used = usage_of(reply, 0, 0, time.monotonic() - started, model.profile)
            counted.add(used)
            own.record(
                EventType.MODEL_REPLIED,
                step=1,
                message=own.keep(reply.message()),
                usage=used.to_json(),
                seconds=round(used.seconds, 6),
                finish_reason=reply.finish_reason,
                model=reply.model or model.profile.name,
                estimated=reply.usage is None,
            )
            status, error = "completed", ""
        except ModelError as failure:
            error = failure.message[:2000]
            own.record(EventType.MODEL_FAILED, step=1, kind=failure.kind, message=error)
            raise
        finally:
            own.record(
                EventType.RUN_FINISHED,
                status=status,
                preview="",
                output=None,
                ref=None,
                usage=counted.usage.to_json(),
                steps=1,
                error=error or None,
            )
            own.send()
        return reply

    return ask
