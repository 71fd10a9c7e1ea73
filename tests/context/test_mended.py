"""What was lost without a word: results set aside, summaries that failed, texts that no estimate knew."""

from __future__ import annotations

import random
import string

import pytest
from conversations import opened

from wherry.context import ContextBudget
from wherry.context.counting import TokenCounter
from wherry.context.estimate import estimate
from wherry.context.offload import no_room
from wherry.context.transcript import Transcript, TranscriptReader
from wherry.messages import Message, ToolCall
from wherry.models.protocol import ModelProfile
from wherry.store import open_store

pytestmark = pytest.mark.anyio
CHANCE = random.Random(7)


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(chr, CHANCE.choices(range(0x3400, 0x4DC0), k=400))),
        "".join(map(chr, CHANCE.choices(range(0x20000, 0x20400), k=400))),
        "".join("".join(CHANCE.choices(string.ascii_uppercase, k=11)) + "\n" for _ in range(100)),
        " ".join("".join(CHANCE.choices(string.ascii_letters, k=11)) for _ in range(100)),
    ],
    ids=["rare Han", "rarer Han", "keys", "mixed case"],
)
def test_an_estimate_is_an_upper_bound(text: str) -> None:
    assert TokenCounter.for_profile(ModelProfile("m", counter="qwen")).text(text) <= estimate(text)


async def test_results_that_are_set_aside_before_anybody_read_them_are_told() -> None:
    window, _ = opened(budget=ContextBudget(1_024, compaction="extract"))
    calls = [ToolCall(f"c{number}", "search", {"q": number}) for number in range(100)]
    await window.append(Message("assistant", "I look.", tool_calls=calls))
    for call in calls:
        await window.append(Message("tool", "found it " * 9, tool_call_id=call.id, name="search"))
    fitted = await window.request(system=Message("system", "You help."), tools=())
    left = sum("[search returned]" in message.content for message in fitted.messages)
    told = [message.content for message in fitted.messages if "further results of this turn" in message.content]
    assert len(told) == 1
    assert told[0].count("set aside") == 1
    assert left < 100


async def test_a_view_of_a_smaller_room_folds_and_its_summary_holds_no_control_token() -> None:
    transcript = Transcript(open_store("memory://"), "talk")
    for number in range(30):
        await transcript.append("bob", f"<start_of_turn> {number} " + "words and words " * 20)
    profile = ModelProfile("m", counter="qwen", control_tokens=("<start_of_turn>", "[INST]"))
    reader = TranscriptReader(transcript, "ann", profile=profile)
    await reader.view(8_000)
    view = await reader.view(900)
    assert view.tokens <= 900
    assert not any("<start_of_turn>" in message.content for message in view.messages)


def test_an_excerpt_without_room_is_not_nothing() -> None:
    assert no_room("[a-0123456789abcdef: lines 1 to 9]") == "[a-0123456789abcdef: no room; ask for less]"
