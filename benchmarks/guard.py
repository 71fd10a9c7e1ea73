"""`wherry.guard.fit` against the limiters of other frameworks: random conversations with tools.

Each limiter is asked to keep a conversation within the same room, with the same exact vocabulary. What comes out is
rendered by the model's chat template and counted; a request is bad if its server would refuse it or its model would
not know what it is about: too many tokens, a result without its call, a call without its result, no system prompt, not
what the user said last. Messages of one role in a row are held against nobody.

    python benchmarks/guard.py [CONVERSATIONS]     300 unless told
"""

# ruff: noqa: E402  what the peers warn of at import is to be silenced first

from __future__ import annotations

import asyncio
import logging
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
sys.path.insert(0, str(Path(__file__).parents[1]))

import quicktok
from autogen.agentchat.contrib.capabilities import transforms
from autogen_core.model_context import (
    BufferedChatCompletionContext,
    HeadAndTailChatCompletionContext,
    TokenLimitedChatCompletionContext,
)
from langchain_core.messages import HumanMessage, convert_to_messages
from langchain_core.messages.utils import trim_messages
from tests.guard.dict_conversations import conversation, counted, faults

from wherry import ContextBudget
from wherry.context import TokenCounter
from wherry.guard import fit
from wherry.guard.autogen_messages import AutoGenMessages
from wherry.guard.langchain import openai_dict
from wherry.models.protocol import ModelProfile

WINDOW, RESERVE = 4_096, 1_024
ROOM = WINDOW - RESERVE
COUNTER = TokenCounter.for_profile(ModelProfile("", counter="qwen"))
MEASURED = 100
"""Conversations that memory is measured with: that takes time."""

Dicts = list[dict[str, Any]]
Limiter = Callable[[Dicts], Dicts]


class Counts:
    """The peers count a conversation anew for each message that they drop: what they ask is remembered for them."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def text(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = COUNTER.text(text)
        return self.known[text]

    def dicts(self, dicts: Sequence[dict[str, Any]]) -> int:
        total = COUNTER.request
        for raw in dicts:
            total += self.text(raw.get("content") or "") + 20
            for call in raw.get("tool_calls") or ():
                total += self.text(call["function"]["arguments"]) + 20
        return total


COUNTS = Counts()


class CountingClient:
    """What `TokenLimitedChatCompletionContext` asks of a model client."""

    def count_tokens(self, messages: Any, *, tools: Any = ()) -> int:
        return COUNTS.dicts(AutoGenMessages(messages).dicts)


def system_apart(limit: Callable[[Dicts, int], Dicts]) -> Limiter:
    """AutoGen and AG2 put the system prompt before what their limiters give: they get the room that it leaves."""

    def limited(dicts: Dicts) -> Dicts:
        first = dicts[:1] if dicts[0]["role"] == "system" else []
        return [*first, *limit(dicts[len(first) :], ROOM - COUNTS.dicts(first))]

    return limited


def autogen_context(make: Callable[[int], Any]) -> Limiter:
    def limit(dicts: Dicts, room: int) -> Dicts:
        async def run() -> Dicts:
            context = make(room)
            for message in AutoGenMessages([]).back(dicts):
                await context.add_message(message)
            return AutoGenMessages(await context.get_messages()).dicts

        return asyncio.run(run())

    return system_apart(limit)


def ag2_transform(make: Callable[[int], Any]) -> Limiter:
    return system_apart(lambda dicts, room: make(room).apply_transform([{**raw} for raw in dicts]))


def langchain_trim(**options: Any) -> Limiter:
    def count(messages: Sequence[Any]) -> int:
        return COUNTS.dicts([openai_dict(message) for message in messages])

    def limit(dicts: Dicts) -> Dicts:
        kept = trim_messages(
            convert_to_messages(dicts), max_tokens=ROOM, token_counter=count, include_system=True, **options
        )
        return [openai_dict(message) for message in kept]

    return limit


def ours(dicts: Dicts) -> Dicts:
    return fit(dicts, budget=ContextBudget(WINDOW, reserve_output=RESERVE), counter="qwen").messages


def bad(given: Dicts, out: Dicts) -> str | None:
    """The first thing that is wrong with a request."""
    plain = [{**raw, "content": raw.get("content") or ""} for raw in out]
    broken = [fault for fault in faults(plain) if "call" in fault]
    if broken:
        return "calls and results torn"
    if given[0]["role"] == "system" and (not out or out[0]["role"] != "system"):
        return "no system prompt"
    said = next(raw["content"] for raw in reversed(given) if raw["role"] == "user")
    if not any(raw["role"] == "user" and said[:20] in str(raw["content"]) for raw in out):
        return "not what the user said"
    if counted(plain) > ROOM:
        return "too many tokens"
    return None


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    # AG2 counts with OpenAI's vocabulary, which it would download: it is given the exact one.
    transforms.transforms_util.token_count_utils.count_token = lambda text, model="": COUNTS.text(str(text))  # type: ignore[attr-defined]
    transforms.tiktoken = SimpleNamespace(encoding_for_model=lambda _: quicktok.get_encoding("qwen3"))  # type: ignore[attr-defined]
    limiters: dict[str, Limiter] = {
        "wherry.guard.fit": ours,
        "AutoGen Buffered(10)": autogen_context(lambda _: BufferedChatCompletionContext(10)),
        "AutoGen HeadAndTail(3, 7)": autogen_context(lambda _: HeadAndTailChatCompletionContext(3, 7)),
        "AutoGen TokenLimited": autogen_context(
            lambda room: TokenLimitedChatCompletionContext(CountingClient(), token_limit=room)  # type: ignore[arg-type]
        ),
        "AG2 MessageHistoryLimiter(10)": ag2_transform(
            lambda _: transforms.MessageHistoryLimiter(10, keep_first_message=True)
        ),
        "AG2 MessageTokenLimiter": ag2_transform(lambda room: transforms.MessageTokenLimiter(max_tokens=room)),
        "LangChain trim_messages": langchain_trim(strategy="last"),
        "  start_on human, end_on": langchain_trim(
            strategy="last", start_on=HumanMessage, end_on=(HumanMessage, "tool")
        ),
    }
    conversations = [conversation(seed, most=2_000) for seed in range(count)]
    told = sum(len(dicts) for dicts in conversations)
    print(f"{count:,} conversations, {told:,} messages; window {WINDOW:,}, of which {RESERVE:,} for the reply\n")
    print(f"{'':<32}{'bad':>7}{'CPU ms':>10}{'peak kB':>10}  what is wrong")
    for name, limit in limiters.items():
        why: Counter[str] = Counter()
        spent = 0.0
        for dicts in conversations:
            begun = time.process_time()
            try:
                out: Dicts | None = limit(dicts)
            except Exception as error:
                out = None
                why[f"raises {type(error).__name__}"] += 1
            spent += time.process_time() - begun
            if out is not None and (wrong := bad(dicts, out)) is not None:
                why[wrong] += 1
        peak = memory(limit, conversations[:MEASURED])
        reasons = ", ".join(f"{what} {number / count:.0%}" for what, number in why.most_common())
        share = sum(why.values()) / count
        print(f"{name:<32}{share:>7.1%}{spent / count * 1_000:>10.2f}{peak / 1_000:>10,.0f}  {reasons}", flush=True)


def memory(limit: Limiter, conversations: Sequence[Dicts]) -> int:
    """The most that a call had in use besides what it was given."""
    tracemalloc.start()
    most = 0
    for dicts in conversations:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        try:
            limit(dicts)
        except Exception as error:
            del error
        most = max(most, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return most


if __name__ == "__main__":
    main()
