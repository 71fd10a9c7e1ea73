"""What models and servers do that nobody expects: no run ends of it, and no request passes the window."""

from __future__ import annotations

from typing import Any

import pytest
from conversations import exact, opened

from wherry import ToolCallingAgent
from wherry.context import ContextBudget
from wherry.context.shortening import LONGEST_ID, LONGEST_NAME, sized
from wherry.journal import EventType
from wherry.messages import Message, ToolCall, ToolSchema, Usage
from wherry.models.protocol import ModelReply
from wherry.models.scripted import ScriptedModel

pytestmark = pytest.mark.anyio
SYSTEM = Message("system", "You help.")


def nested(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("c", "x" * 100_000, {}),
        ToolCall("c" * 100_000, "search", {}),
        ToolCall("c", "search", nested(600)),
        ToolCall("c", "search", nested(100)),
    ],
    ids=["name", "id", "600 deep", "100 deep"],
)
async def test_no_call_of_a_model_is_too_large_in_any_part(call: ToolCall) -> None:
    window, _ = opened(budget=ContextBudget(2_048, compaction="extract"))
    await window.append(Message("assistant", tool_calls=[call]))
    await window.append(Message("tool", "found", tool_call_id=call.id, name=call.name))
    for tools in ((), (ToolSchema("search", "Searches.", {"type": "object", "properties": {}}),)):
        fitted = await window.request(system=SYSTEM, tools=tools)
        assert exact(fitted.messages, tools) + fitted.max_output <= 2_048
    said, result = fitted.messages[-2:]
    assert result.tool_call_id == said.tool_calls[0].id
    assert len(said.tool_calls[0].id) <= LONGEST_ID
    assert len(said.tool_calls[0].name) <= LONGEST_NAME
    assert result.content == "found"


def test_a_run_goes_on_after_a_call_of_an_endless_name() -> None:
    model = ScriptedModel([ModelReply("", tool_calls=(ToolCall("c", "x" * 100_000, {}),)), "done"])
    assert ToolCallingAgent(model=model, tools=[], store="memory://").run("Do it.").output == "done"


def test_long_ids_that_differ_stay_different() -> None:
    first, second = (sized(Message("tool", "", tool_call_id="c" * 100 + end)).tool_call_id for end in "ab")
    assert first != second


async def test_calls_in_words_are_counted_as_they_are_sent() -> None:
    name = "n" * 32 + "_x" * 16
    window, _ = opened(budget=ContextBudget(8_192, reserve_output=512, compaction="extract"))
    for number in range(120):
        call = ToolCall(f"c{number}", name, {"q": number})
        await window.append(Message("assistant", tool_calls=[call]))
        await window.append(Message("tool", f"found {number}", tool_call_id=call.id, name=name))
        fitted = await window.request(system=SYSTEM, tools=())
        assert exact(fitted.messages, ()) + fitted.max_output <= 8_192


async def walked(counter: str, factor: float, *, once: bool = False) -> tuple[int, list[dict[str, Any]]]:
    """The largest request of a run in 4,096 tokens whose server reports `factor` of the truth; and the warnings."""
    window, recorder = opened(budget=ContextBudget(4_096, reserve_output=512, compaction="extract"), counter=counter)
    largest = 0
    for number in range(40):
        call = ToolCall(f"c{number}", "search", {"q": number})
        await window.append(Message("assistant", "I look.", tool_calls=[call]))
        said = "plain English words that a tokenizer knows well " * 20
        await window.append(Message("tool", said, tool_call_id=call.id, name="search"))
        fitted = await window.request(system=SYSTEM, tools=())
        truth = exact(fitted.messages, ())
        largest = max(largest, truth + fitted.max_output)
        window.report(Usage(1, int(truth * (factor if not once or number == 8 else 1))))
    return largest, recorder.of(EventType.WARNING)


@pytest.mark.parametrize(("counter", "factor"), [("qwen", 0.6), ("qwen", 0.8), ("bytes", 0.25), ("bytes", 0.1)])
async def test_a_server_that_understates_takes_no_request_over_the_window(counter: str, factor: float) -> None:
    largest, warnings = await walked(counter, factor)
    assert largest <= 4_096
    assert len(warnings) == 1, "and that is said once"


@pytest.mark.parametrize("once", [True, False])
async def test_a_server_that_exaggerates_ends_no_run(once: bool) -> None:
    largest, _ = await walked("qwen", 3.9, once=once)
    assert largest <= 4_096
