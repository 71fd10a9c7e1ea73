"""Turns that a program changes or takes out after they were said."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from conversations import exact, opened
from hypothesis import given
from hypothesis import strategies as st

from wherry.context import ContextBudget, ContextWindow
from wherry.messages import Message, ToolCall, ToolSchema

pytestmark = pytest.mark.anyio
SYSTEM = Message("system", "You help.")
TOOLS = (ToolSchema("search", "Searches.", {"type": "object", "properties": {"q": {"type": "string"}}}),)
Act = tuple[Literal["say", "result", "head", "out", "same"], int, int]


async def turn(window: ContextWindow, number: int, size: int) -> None:
    call = ToolCall(f"c{number}", "search", {"q": f"question {number}"})
    await window.append(Message("assistant", f"said {number}", tool_calls=[call]))
    await window.append(Message("tool", f"result {number} " + "word " * size, tool_call_id=call.id, name="search"))


def amend(window: ContextWindow, what: str, which: int, size: int) -> None:
    if not window.turns:
        return
    chosen = window.turns[which % len(window.turns)]
    messages = [entry.message for entry in chosen.entries]
    if what == "out":
        messages = []
    elif what == "head":
        messages[0] = replace(messages[0], content="other " * size)
    elif what == "result":
        messages[-1] = replace(messages[-1], content="other " * size)
    window.amend(chosen, messages)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "say", "result", "head", "out", "same"]), st.integers(0, 9), st.integers(0, 400)
        ),
        max_size=40,
    )
)
async def test_whatever_is_changed_requests_fit_and_every_result_follows_its_call(acts: list[Act]) -> None:
    window, _ = opened(budget=ContextBudget(2_048, compaction="extract"))
    for number, (what, which, size) in enumerate(acts):
        if what == "say":
            await turn(window, number, size)
        else:
            amend(window, what, which, size)
        fitted = await window.request(system=SYSTEM, tools=TOOLS)
        assert exact(fitted.messages, TOOLS) + fitted.max_output <= 2_048
        assert exact(fitted.messages, TOOLS) <= fitted.tokens
        waiting: set[str] = set()
        for message in fitted.messages:
            if message.role == "tool":
                assert message.tool_call_id in waiting
                waiting.discard(str(message.tool_call_id))
            else:
                assert not waiting
                waiting = {call.id for call in message.tool_calls}
        assert not waiting


async def test_the_next_request_says_what_was_changed_and_nothing_else() -> None:
    window, _ = opened(budget=ContextBudget(8_192, compaction="extract"))
    for number in range(4):
        await turn(window, number, 20)
    before = await window.request(system=SYSTEM, tools=TOOLS)
    first, second, *_ = window.turns
    head, result = (entry.message for entry in first.entries)
    window.amend(first, [head, replace(result, content="[forgotten]")])
    window.amend(second, [])
    after = await window.request(system=SYSTEM, tools=TOOLS)
    assert after.messages == (*before.messages[:3], replace(result, content="[forgotten]"), *before.messages[6:])
    assert after.tokens < before.tokens
    assert after.keep == 3
    assert after.snapshot is not None
