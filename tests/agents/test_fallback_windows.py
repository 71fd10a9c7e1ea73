"""A run that goes on with another model: what that one is sent, it can take."""

from __future__ import annotations

from typing import Any

import pytest
from tests.context.conversations import exact

from wherry import ContextBudget, Fallback, FunctionModel, ToolCallingAgent, open_store, tool
from wherry.context import DEFAULT_WINDOW, TokenCounter
from wherry.errors import ModelError
from wherry.messages import ToolCall, Usage
from wherry.models import ModelReply, ModelRequest

HINDI = "भारत एक विशाल देश है और यहाँ अनेक भाषाएँ बोली जाती हैं। "


@tool
def look(number: int) -> str:
    """Look somewhere.

    Args:
        number: where
    """
    return f"{number}: " + HINDI * 12


def counted(counter: str, request: ModelRequest) -> int:
    """Tokens of the words alone."""
    count = TokenCounter.for_profile(FunctionModel(lambda r: "", counter=counter).profile).text
    return sum(count(message.content) for message in request.messages)


class Pair:
    """A model that looks until it breaks, and one that keeps what it is sent."""

    def __init__(self, steps: int, counter: str) -> None:
        self.steps, self.counter = steps, counter
        self.asked = 0
        self.taken: list[ModelRequest] = []

    def first(self, request: ModelRequest) -> ModelReply:
        self.asked += 1
        if self.asked > self.steps:
            raise ModelError("no more", kind="QuotaExhausted")
        call = ToolCall(f"c{self.asked}", "look", {"number": self.asked})
        return ModelReply(tool_calls=[call], usage=Usage(input_tokens=counted(self.counter, request)))

    def second(self, request: ModelRequest) -> ModelReply:
        self.taken.append(request)
        return ModelReply("done", finish_reason="stop")


@pytest.mark.parametrize("other", ["cl100k", "bytes"])
def test_what_another_tokenizer_makes_of_the_request_fits_its_window(other: str) -> None:
    pair = Pair(40, "o200k")
    model = Fallback(
        FunctionModel(pair.first, counter="o200k", window=8_192),
        FunctionModel(pair.second, counter=other, window=8_192),
    )
    agent = ToolCallingAgent([look], model, store=open_store("memory://"), max_steps=60)
    assert agent.run("Look around.").output == "done"
    assert counted("cl100k", pair.taken[0]) <= 8_192


def test_models_of_one_tokenizer_are_counted_by_it() -> None:
    pair = Pair(20, "qwen")
    model = Fallback(
        FunctionModel(pair.first, counter="qwen", window=8_192),
        FunctionModel(pair.second, counter="qwen", window=4_096),
    )
    agent = ToolCallingAgent([look], model, store=open_store("memory://"), max_steps=60)
    assert agent.run("Look around.").output == "done"
    assert 1_000 < exact(pair.taken[0].messages, pair.taken[0].tools) <= 4_096


@pytest.mark.parametrize("window", [None, 0])
def test_a_model_of_unknown_window_gets_what_every_model_takes_and_it_is_said_once(window: int | None) -> None:
    pair = Pair(60, "qwen")
    other: Any = FunctionModel(pair.second, counter="qwen", window=window, name="other")
    model = Fallback(FunctionModel(pair.first, counter="qwen", window=64_000), other)
    agent = ToolCallingAgent([look], model, store=open_store("memory://"), max_steps=80)
    result = agent.run("Look around.")
    assert result.output == "done"
    assert exact(pair.taken[0].messages, pair.taken[0].tools) <= DEFAULT_WINDOW
    said = [one for one in result.warnings if "'other' is not known" in one]
    assert len(said) == 1


def test_the_users_own_window_stands_for_a_model_of_unknown_window() -> None:
    pair = Pair(30, "qwen")
    model = Fallback(
        FunctionModel(pair.first, counter="qwen", window=64_000),
        FunctionModel(pair.second, counter="qwen", window=None),
    )
    budget = ContextBudget(window=32_000)
    result = ToolCallingAgent([look], model, store=open_store("memory://"), max_steps=80, context=budget).run("Look.")
    assert not [one for one in result.warnings if "is not known" in one]
    assert exact(pair.taken[0].messages, pair.taken[0].tools) > DEFAULT_WINDOW
