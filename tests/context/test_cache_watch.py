"""When a prompt cache that was used is told to be used no more."""

from __future__ import annotations

from typing import Any

import pytest
from conversations import exact, opened

from wherry.context import ContextBudget, ContextWindow, cache_watch
from wherry.journal import EventType
from wherry.messages import Message, Usage

pytestmark = pytest.mark.anyio
SYSTEM = Message("system", "You help.")


async def step(window: ContextWindow, share: float) -> None:
    """One request, of which the server says what share came from its cache."""
    fitted = await window.request(system=SYSTEM, tools=())
    tokens = exact(fitted.messages, ())
    window.report(Usage(1, tokens, cached_tokens=int(tokens * share)))
    await window.append(Message("assistant", "I see."))
    await window.append(Message("user", "row " + "word " * 30))


async def warnings(shares: list[float], **budget: Any) -> list[str]:
    window, recorder = opened("You help.", "Do it. " * 40, budget=ContextBudget(budget.get("window", 100_000)))
    for share in shares:
        await step(window, share)
    return [event["message"] for event in recorder.of(EventType.WARNING)]


async def test_a_collapse_after_hits_is_told_once() -> None:
    (warning,) = await warnings([0, 0.9, 0.9, 0.9, 0, 0, 0, 0])
    assert "prompt cache is used no more" in warning


@pytest.mark.parametrize(
    "shares",
    [
        [0.0] * 8,  # a server without a cache, or one that does not say
        [0, 0.9, 0.9, 0, 0, 0],  # too few hits to go by
        [0, 0.9, 0.9, 0.9, 0, 0.9, 0, 0.9],  # now and then another machine
        [0, 0.9, 0.9, 0.9, 0.4, 0.4, 0.4],  # less, but used
    ],
)
async def test_what_is_no_collapse_is_not_told(shares: list[float]) -> None:
    assert await warnings(shares) == []


async def test_a_compaction_is_no_collapse() -> None:
    window, recorder = opened("You help.", "Do it.", budget=ContextBudget(1_024))
    last = None
    for _ in range(60):
        fitted = await window.request(system=SYSTEM, tools=())
        kept = 0.9 if last is not None and fitted.keep == last else 0.05
        last = len(fitted.messages)
        tokens = exact(fitted.messages, ())
        window.report(Usage(1, tokens, cached_tokens=int(tokens * kept)))
        await window.append(Message("assistant", "I see."))
        await window.append(Message("user", "row " + "word " * 30))
    assert len(recorder.of(EventType.CONTEXT_COMPACTED)) > 3
    assert recorder.of(EventType.WARNING) == []


async def test_a_pause_is_no_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_watch, "_IDLE_SECONDS", 0.0)
    assert await warnings([0, 0.9, 0.9, 0.9, 0, 0, 0]) == []
