"""What CONTEXT.md promises, over random conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import anyio
import pytest
from conversations import CONTROL, Conversation, Recorder, conversations, exact, opened
from hypothesis import HealthCheck, given, settings

from wherry.context import ContextWindow, Fitted
from wherry.errors import ContextBudgetError
from wherry.journal import EventType
from wherry.messages import Message, Usage, digest
from wherry.store import open_store

NEWEST = {"qwen": 220, "bytes": 420}
"""Most tokens that the newest call with its result takes as the smallest previews; ids and names of 80 characters are
counted twice, and by the estimate at more than half a token a character."""


def check_pairs(messages: Sequence[Message]) -> None:
    """Every call is answered before anything else is said, and every result answers a call."""
    waiting: Counter[str] = Counter()
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id is not None
            assert waiting[message.tool_call_id] > 0, "a result without its call"
            waiting[message.tool_call_id] -= 1
            continue
        assert not +waiting, "a call without its result"
        waiting = Counter(call.id for call in message.tool_calls)
    assert not +waiting, "a call without its result"


def check_request(
    fitted: Fitted, before: Fitted | None, compacted: bool, newest: Message | None, talk: Conversation
) -> None:
    prompt = exact(fitted.messages, talk.tools)
    assert prompt + fitted.max_output <= fitted.window
    assert fitted.tokens + fitted.max_output <= fitted.window
    assert fitted.messages[0] == Message("system", talk.system)
    check_pairs(fitted.messages)
    for message in fitted.messages[1:]:
        for token in CONTROL:
            assert token not in message.content
    if before is not None:
        assert fitted.messages[: fitted.keep] == before.messages[: fitted.keep]
        if not compacted:
            assert fitted.messages[: len(before.messages)] == before.messages
            assert fitted.keep == len(before.messages)
    if newest is not None:
        last = fitted.messages[-1]
        cut = "<wherry:" in last.content or "cut to what fits" in last.content
        assert newest.content in last.content or cut or not last.content.rpartition("]\n")[2]


async def play(talk: Conversation) -> None:
    store = open_store("memory://")
    recorder = Recorder()
    window, _ = opened(
        talk.system,
        talk.task,
        budget=talk.budget,
        counter=talk.counter,
        recorder=recorder,
        artifacts=store.artifacts,
        history=talk.history,
        tools=talk.tools,
    )
    before: Fitted | None = None
    seen: list[Message] = []
    newest: Message | None = None
    for turn in (None, *talk.turns):
        if turn is not None:
            newest = await said(window, Message("assistant", turn.said, tool_calls=turn.calls), seen)
            for result in turn.results:
                newest = await said(window, result, seen)
            if turn.observation is not None:
                newest = await said(window, Message("user", turn.observation), seen)
            elif newest.role == "assistant" or len(turn.results) < len(turn.calls):
                newest = None if turn.calls else newest
        compactions = len(recorder.of(EventType.CONTEXT_COMPACTED))
        try:
            fitted = await window.request(system=Message("system", talk.system), tools=talk.tools)
        except ContextBudgetError as error:
            check_refusal(error, NEWEST[talk.counter])
            return
        folded = len(recorder.of(EventType.CONTEXT_COMPACTED)) > compactions
        shrunk = before is not None and fitted.keep < len(before.messages)
        check_request(fitted, before, folded or shrunk, newest, talk)
        if shrunk:  # only where something had to give
            assert folded or (before is not None and fitted.tokens > 0)
        for body in map(digest, (message.encode() for message in fitted.messages)):
            assert body in recorder.kept
        assert fitted.add == tuple(digest(message.encode()) for message in fitted.messages[fitted.keep :])
        if talk.reports:
            window.report(Usage(1, exact(fitted.messages, talk.tools)))
        before = fitted
    in_order(before, seen)
    for message in seen:
        assert digest(message.encode()) in recorder.kept
    for payload in recorder.of(EventType.CONTEXT_OFFLOADED):
        if payload["ref"] is not None:
            assert len(store.artifacts.read(payload["ref"])) == payload["bytes"]


async def said(window: ContextWindow, message: Message, seen: list[Message]) -> Message:
    kept = await window.append(message)
    seen.append(kept)
    return kept


def in_order(fitted: Fitted | None, seen: list[Message]) -> None:
    """What is left of the conversation stands in the order in which it was said."""
    assert fitted is not None
    places = {id(message): place for place, message in enumerate(seen)}
    left = [places[id(message)] for message in fitted.messages if id(message) in places]
    assert left == sorted(left)


def check_refusal(error: ContextBudgetError, newest: int) -> None:
    """Only what cannot be folded may be the reason."""
    assert error.diagnosis is not None
    parts = error.diagnosis["parts"]
    assert sum(parts.values()) > error.diagnosis["window"]
    pinned = sum(tokens for name, tokens in parts.items() if name != "newest messages")
    assert pinned + newest > error.diagnosis["window"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(conversations())
def test_no_conversation_breaks_the_bound(talk: Conversation) -> None:
    anyio.run(play, talk)


@pytest.mark.slow
@pytest.mark.bench
@settings(max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(conversations())
def test_no_conversation_breaks_the_bound_at_length(talk: Conversation) -> None:
    anyio.run(play, talk)
