"""A `Fitter` on conversations that go on, and what `fit` does with the odd parts of messages."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage
from tests.context.conversations import png
from tests.guard.dict_conversations import anthropic_faults, conversation, counted, faults

from wherry import ContextBudget, FunctionModel, open_store
from wherry.errors import ConfigurationError, ContextBudgetError
from wherry.guard import Fitter, fit

Dicts = list[dict[str, Any]]


def turn(number: int, size: int = 60) -> Dicts:
    call = {"id": f"c{number}", "type": "function", "function": {"name": "search", "arguments": f'{{"q": {number}}}'}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": f"row {number} of it, " * size},
    ]


def result(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1_024, 2_048, 4_096]), st.booleans())
def test_every_request_of_a_growing_list_fits(seed: int, window: int, odd: bool) -> None:
    messages = conversation(seed, odd=odd, most=3_000)
    fitter = Fitter(window, "qwen")
    for length in range(1, len(messages) + 1):
        fitted = fitter.fit(messages[:length])
        assert faults(fitted.messages) == []
        assert counted(fitted.messages) <= fitted.tokens
        assert fitted.tokens + fitted.max_output <= window


def test_between_two_foldings_each_answer_begins_with_the_one_before() -> None:
    messages: Dicts = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Read all."}]
    fitter = Fitter(4_096, "qwen")
    before: Dicts = []
    rewritten = 0
    for number in range(120):
        messages += turn(number, 15)
        fitted = fitter.fit(messages).messages
        if fitted[: len(before)] != before:
            rewritten += 1
        before = fitted
    assert 0 < rewritten < 15
    assert before[-1] is messages[-1]


def test_only_what_is_new_is_counted() -> None:
    counts: list[str] = []

    def count(text: str) -> int:
        counts.append(text)
        return len(text) // 4

    messages: Dicts = [{"role": "user", "content": "Read all."}]
    fitter = Fitter(1_000_000, count)
    for number in range(50):
        messages += turn(number)
        counts.clear()
        fitter.fit([dict(raw) for raw in messages])  # other objects, as a program makes them of JSON
        assert len(counts) <= 12


def test_a_message_that_was_changed_in_place_is_seen() -> None:
    messages: Dicts = [{"role": "user", "content": "short"}]
    fitter = Fitter(1_024, "qwen")
    first = fitter.fit(messages).tokens
    messages[0]["content"] = "long " * 300
    assert fitter.fit(messages).tokens > first + 250


def test_one_fitter_keeps_conversations_apart() -> None:
    fitter = Fitter(2_048, "qwen")
    talks: dict[str, Dicts] = {name: [{"role": "user", "content": f"I am {name}."}] for name in "abc"}
    for number in range(30):
        for name, messages in talks.items():
            messages += turn(number)
            fitted = fitter.fit(messages).messages
            assert any(f"I am {name}." in str(raw["content"]) for raw in fitted)
            assert not any(f"I am {other}." in str(fitted) for other in "abc" if other != name)


def test_going_on_from_what_fit_gave() -> None:
    messages: Dicts = [{"role": "user", "content": "Find order T-4711."}]
    for number in range(100):
        messages = fit([*messages, *turn(number)], budget=2_048, counter="qwen").messages
    assert len(messages) < 40
    summaries = [raw for raw in messages if "<wherry:summary>" in str(raw["content"])]
    assert len(summaries) == 1
    assert faults(messages) == []


def test_other_messages_than_the_latest_go_first() -> None:
    messages: Dicts = [
        {"role": "system", "content": "Be brief. " * 50},
        {"role": "user", "content": "first " * 3_000},
        {"role": "assistant", "content": "said " * 3_000},
        {"role": "user", "content": "the question " * 200, "name": "someone", "x": 1},
    ]
    fitted = fit(messages, budget=2_048, counter="qwen")
    assert fitted.messages[0] is messages[0]
    assert fitted.messages[-1] is messages[-1]
    assert {change.kind for change in fitted.changes} == {"shortened"}


def test_a_question_that_is_too_large_alone_is_a_preview() -> None:
    messages: Dicts = [{"role": "user", "content": "word " * 100_000}]
    fitted = fit(messages, budget=2_048, counter="qwen")
    assert fitted.messages[0]["content"].startswith("<wherry:offloaded")
    assert 1_000 < fitted.tokens <= 2_048 - 512


def test_a_system_prompt_of_all_policies_leaves_room_for_the_talk() -> None:
    messages: Dicts = [{"role": "system", "content": "policy " * 50_000}, {"role": "user", "content": "hello"}]
    fitted = fit(messages, budget=2_048, counter="qwen")
    assert [raw["role"] for raw in fitted.messages] == ["system", "user"]
    assert fitted.messages[1] is messages[1]


def test_results_of_calls_made_together_stay_together() -> None:
    calls = [{"id": f"p{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(200)]
    messages: Dicts = [
        {"role": "user", "content": "all at once"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": call["id"], "content": "result " * 50} for call in calls),
    ]
    for window in (2_048, 8_192, 16_384, 65_536):
        fitted = fit(messages, budget=window, counter="qwen")
        assert faults(fitted.messages) == []
        kept = [raw for raw in fitted.messages if raw.get("tool_calls")]
        assert all(len(raw["tool_calls"]) == 200 for raw in kept)
        assert len(kept) == (window > 8_192)


def image(width: int) -> dict[str, Any]:
    data = base64.b64encode(png(width, width)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def test_pictures_are_counted_and_older_ones_go() -> None:
    messages: Dicts = []
    for number in range(6):
        parts = [{"type": "text", "text": f"picture {number}"}, image(1_500)]
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": f"I see {number}."}]
    messages.append({"role": "user", "content": [{"type": "text", "text": "and this?"}, image(800)]})
    fitted = fit(messages, budget=8_192)
    assert fitted.tokens > 1_600
    assert fitted.messages[-1] is messages[-1]
    assert str(fitted.messages).count("image_url") < str(messages).count("image_url")


def test_a_tools_schemas_that_fill_the_window_are_refused() -> None:
    tool = {"name": "f", "description": "words " * 5_000, "input_schema": {"type": "object"}}
    with pytest.raises(ContextBudgetError, match="tool schemas"):
        fit([{"role": "user", "content": "hello"}], budget=2_048, tools=[tool])


def test_tools_as_all_write_them_take_the_same() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    message: Dicts = [{"role": "user", "content": "hello"}]
    ways = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
        {"type": "function", "name": "f", "description": "d", "parameters": schema},
        {"name": "f", "description": "d", "input_schema": schema},
    ]
    assert len({fit(message, budget=2_048, tools=[tool]).tokens for tool in ways}) == 1


def test_what_a_request_asks_for_is_kept_free() -> None:
    fitter = Fitter(4_096, "qwen")
    messages: Dicts = [{"role": "user", "content": "word " * 2_600}]
    assert not fitter.fit(messages, max_output=100).changed
    asked = fitter.fit(messages, max_output=2_000)
    assert asked.max_output == 2_000
    assert asked.tokens <= 2_096
    assert fitter.fit(messages, max_output=1_000_000).max_output == 2_048


def test_older_forms_and_odd_ones() -> None:
    messages: Dicts = [
        {"role": "developer", "content": "You help."},
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "result"},
        {"role": "assistant", "content": "yes", "refusal": None, "reasoning_content": "thought " * 100},
        {
            "role": "user",
            "content": [{"type": "input_audio", "input_audio": {"data": "QUJD" * 4_000, "format": "wav"}}],
        },
    ]
    fitted = fit(messages, budget=16_384, counter="qwen")
    assert not fitted.changed
    assert fitted.tokens > 1_700
    assert fit(messages, budget=700, counter="qwen").tokens < 700


def test_nothing_and_a_system_prompt_alone_stay_as_they_are() -> None:
    assert fit([], budget=1_000).messages == []
    alone: Dicts = [{"role": "system", "content": "Select a speaker."}]
    assert fit(alone, budget=1_000).messages[0] is alone[0]


def test_a_later_system_message_stays_where_the_server_takes_it() -> None:
    messages: Dicts = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "system", "content": "remember"},
        {"role": "user", "content": "three"},
    ]
    assert not fit(messages, budget=1_000, strict=False).changed
    strict = fit(messages, budget=1_000)
    assert [raw["role"] for raw in strict.messages] == ["user"]
    assert strict.messages[0]["content"] == "one\n\ntwo\n\n[system]\nremember\n\nthree"


def test_the_whole_of_what_is_shortened_can_be_kept() -> None:
    store = open_store("memory://")
    text = "row of the table\n" * 5_000
    fitter = Fitter(2_048, "qwen", artifacts=store.artifacts, run_id="r")
    content = fitter.fit([{"role": "user", "content": text}]).messages[0]["content"]
    ref = content.partition('ref="')[2].partition('"')[0]
    assert store.artifacts.read(ref).decode() == text


@pytest.mark.anyio
async def test_a_model_writes_the_summary_where_one_is_named() -> None:
    facts = {"facts": [{"about": "harbour", "fact": "opened on 12 March"}], "decisions": [], "open": []}
    model = FunctionModel(lambda _: json.dumps(facts))
    fitter = Fitter(ContextBudget(2_048, summarizer=model), "qwen")
    messages: Dicts = [{"role": "user", "content": "Read all."}]
    for number in range(20):
        messages += turn(number)
    fitted = await fitter.afit(messages)
    assert "harbour: opened on 12 March" in str(fitted.messages)
    assert "harbour" not in str(Fitter(fitter.budget, "qwen").fit(messages).messages)


def test_a_server_that_counts_more_is_believed() -> None:
    fitter = Fitter(8_192)
    messages: Dicts = [{"role": "user", "content": "word " * 500}]
    fitted = fitter.fit(messages)
    fitter.report(fitted, fitted.tokens * 2)
    assert fitter.fit([*messages, {"role": "assistant", "content": "yes"}]).tokens >= fitted.tokens * 2


def test_budgets_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        Fitter(0)
    with pytest.raises(ConfigurationError, match="no room"):
        Fitter(ContextBudget(None, reserve_output=10_000))


@pytest.mark.slow
def test_ten_thousand_messages() -> None:
    messages: Dicts = [{"role": "user", "content": "Read all."}]
    for number in range(5_000):
        messages += turn(number, 2)
    fitted = fit(messages, budget=4_096)
    assert fitted.tokens <= 3_072
    assert fitted.messages[-1] is messages[-1]


def function(**parts: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "a", "function": parts}]}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


ODD: list[Dicts] = [
    [{"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "n", "input": nested(200)}]}],
    [{}],
    [{"role": None, "content": None}],
    [{"role": "tool", "content": "x"}],
    [{"role": "assistant", "content": "hi"}],
    [{"role": "assistant", "tool_calls": [{}, "x", {"id": 5, "function": {"name": 3, "arguments": 4}}]}],
    [{"role": "assistant", "tool_calls": "x", "content": "a"}],
    [{"role": "user", "content": [None, 1, "x", {"type": "image_url", "image_url": None}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}]}],
    [{"role": "user", "content": {"a": 1}}],
    [{"role": "user", "content": "\ud800 lone", "x": {1, 2}}],
    [{"role": "tool", "tool_call_id": "a", "content": "r"}, {"role": "user", "content": "q"}],
    [{"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "n", "input": None}]}],
    [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": None}, "bare"]}],
    [function(name="f", arguments="[" * 100_000)],
    [function(name="f", arguments='{"a":' * 900 + "1" + "}" * 900)],
]


@pytest.mark.parametrize("messages", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("window", [256, 2_048])
def test_whatever_comes_in_something_sound_comes_out(messages: Dicts, window: int) -> None:
    fitted = fit(messages, budget=window, counter="qwen")
    assert fitted.tokens + fitted.max_output <= window
    assert fit(fitted.messages, budget=window, counter="qwen").messages == fitted.messages


def test_what_no_server_could_read_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        fit([{"role": "user", "content": "a", "deep": deep}], budget=2_048)


def test_replies_of_an_sdk_among_the_dicts() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    reply = ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    messages: list[Any] = [{"role": "user", "content": "Read."}, reply, result("c", "short")]
    fitter = Fitter(1_024, "qwen")

    small = fitter.fit(messages)
    messages[-1] = result("c", "The harbour. " * 2_000)
    large = fitter.fit(messages)

    assert small.messages[1] is reply
    assert not small.changed
    assert large.messages[1] is reply
    assert large.changed
    assert large.tokens + large.max_output <= 1_024


@pytest.mark.parametrize("wrong", [None, "hello", {"role": "user", "content": "x"}, [None], ["hello"], [("a", 1)], 5])
def test_what_is_no_list_of_messages_is_told(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"message"):
        Fitter(1_024).fit(wrong)


def test_what_is_put_in_is_told() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    greeting: Any = {"role": "assistant", "content": "Hello.", "tool_calls": [call]}

    fitted = Fitter(1_024).fit([greeting])
    whole = Fitter(1_024).fit([{"role": "user", "content": "Hi."}, greeting, result("c", "yes")])

    assert [change.kind for change in fitted.changes] == ["repaired", "repaired"]
    assert whole.changes == ()


@pytest.mark.parametrize("window", [400, 600, 900, 2_000, 6_000])
def test_thoughts_that_cannot_be_made_shorter_go_with_their_turn(window: int) -> None:
    think: Any = {"type": "thinking", "thinking": "hm " * 1_500, "signature": "S" * 200}
    use: Any = {"type": "tool_use", "id": "a", "name": "read", "input": {}}
    answer = {"type": "tool_result", "tool_use_id": "a", "content": "The harbour opened in March. " * 400}
    messages: list[Any] = [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": [think, use]},
        {"role": "user", "content": [answer]},
    ]
    fitted = fit(messages, budget=window, counter="qwen", system="You read.")
    kept: list[Any] = [block for raw in fitted.messages for block in raw["content"] if isinstance(block, dict)]

    assert anthropic_faults(fitted.messages) == []
    assert fitted.tokens + fitted.max_output <= window
    assert fitted.messages[0] is messages[0]
    assert (think in kept) is (window > 2_000)  # as it is, or not at all


def test_threads_take_turns() -> None:
    inside: list[int] = []
    most = 0

    def count(text: str) -> int:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        time.sleep(0)  # lets others go on
        inside.pop()
        return len(text) // 3 + 1

    fitter = Fitter(1_024, count)
    conversations = [[{"role": "user", "content": f"{n} of {k}"} for k in range(40)] for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        fits = list(pool.map(fitter.fit, conversations))

    assert most == 1
    assert [fitted.messages[0]["content"][:4] for fitted in fits] == [f"{n} of" for n in range(8)]
