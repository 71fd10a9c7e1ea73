"""`fit` over OpenAI's dicts."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guard.dict_conversations import (
    anthropic_faults,
    as_anthropic,
    conversation,
    counted,
    faults,
    from_anthropic,
    split_groups,
)

from wherry.guard import fit

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Searches.",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
]
WINDOWS = st.sampled_from([600, 1_024, 2_048, 4_096, 16_384])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), WINDOWS, st.booleans())
def test_every_invariant_holds(seed: int, window: int, tools: bool) -> None:
    messages = conversation(seed)
    before = copy.deepcopy(messages)
    offered = TOOLS if tools else []

    fitted = fit(messages, budget=window, tools=offered, counter="qwen")

    assert messages == before
    assert counted(fitted.messages, offered) <= fitted.tokens
    assert fitted.tokens + fitted.max_output <= window
    assert faults(fitted.messages) == []
    assert split_groups(messages, fitted.messages) == []
    if messages[0]["role"] == "system":
        assert fitted.messages[0]["role"] == "system"
    latest = [raw for raw in messages if raw["role"] == "user"][-1]
    kept = [raw for raw in fitted.messages if raw["role"] == "user"]
    if counted([latest]) < window // 10:
        assert any(str(raw["content"]).endswith(latest["content"]) for raw in kept)
    assert fit(fitted.messages, budget=window, tools=offered, counter="qwen").messages == fitted.messages


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), WINDOWS)
def test_what_is_broken_comes_out_sound(seed: int, window: int) -> None:
    messages = conversation(seed, odd=True)

    fitted = fit(messages, budget=window, counter="qwen")

    assert faults(fitted.messages) == []
    assert counted(fitted.messages) <= fitted.tokens
    assert fitted.tokens + fitted.max_output <= window
    assert fit(fitted.messages, budget=window, counter="qwen").messages == fitted.messages


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_what_fits_is_the_same_objects(seed: int) -> None:
    messages = [{**raw, "x-own": seed} for raw in conversation(seed)]
    fitted = fit(messages, budget=10_000_000, counter="qwen")
    sound = not faults(messages)

    assert fitted.changed is not sound
    if sound:
        assert all(new is old for new, old in zip(fitted.messages, messages, strict=True))
        assert fitted.changes == ()
    assert all(raw["x-own"] == seed for raw in fitted.messages)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), WINDOWS)
def test_every_invariant_holds_for_anthropic(seed: int, window: int) -> None:
    system, messages = as_anthropic(conversation(seed))
    before = copy.deepcopy(messages)

    fitted = fit(messages, budget=window, counter="qwen", system=system, style="anthropic")

    assert messages == before
    assert anthropic_faults(fitted.messages) == []
    assert counted(from_anthropic(fitted.system, fitted.messages)) <= fitted.tokens
    assert fitted.tokens + fitted.max_output <= window
    again = fit(fitted.messages, budget=window, counter="qwen", system=fitted.system, style="anthropic")
    assert again.messages == fitted.messages
    assert not again.changed


@pytest.mark.parametrize("length", [300, *range(400, 460, 10), 1_000, 4_000])
def test_what_was_said_in_a_script_of_a_token_a_character_stays_legible(length: int) -> None:
    said = "Question: " + "".join(chr(0xAC00 + n * 7919 % 11_172) for n in range(length))

    fitted = fit([{"role": "user", "content": said}], budget=1_024, counter="qwen")

    assert said[:20] in fitted.messages[0]["content"]
    assert not fitted.changed or fitted.tokens > 512
