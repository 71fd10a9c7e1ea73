"""What hysteresis is worth on a real local model: the same run with it, and with a sliding window of the same size.

    python benchmarks/hysteresis.py [--model qwen2.5-coder-0.5b] [--steps 60] [--window 1536]

Both send every step's request to llama.cpp's server, wait for eight tokens of the reply, and go on as a script says.
The sliding window drops the oldest turn as soon as the next request would pass the same high-water mark: its requests
begin alike only up to the task, and the server reads all of the rest anew at every step. Wall time depends on what else
the machine does; the tokens that the server read do not.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import anyio

from wherry.context import ContextBudget, ContextWindow, TokenCounter
from wherry.messages import Message, ToolCall, ToolSchema, digest
from wherry.models import ModelRequest
from wherry.models.local import LocalModel
from wherry.store import open_store

SYSTEM = Message("system", "You are a helper that looks things up in the harbour's books and answers in one sentence.")
TASK = Message("user", "How many ships came to Hull between 1700 and 1760, and which year had most?")
TOOLS = [ToolSchema("search", "Searches.", {"type": "object", "properties": {"q": {"type": "string"}}})]
RESERVE = 128
REPLY = 8
RESULT = "In {year} there were {ships} ships, most of them with timber and wine; the mayor wrote it down on a wet day. "


@dataclass
class Took:
    seconds: float = 0.0
    sent: int = 0
    read: int = 0
    """Tokens that were not in the server's cache."""
    requests: int = 0


def turns(count: int) -> Iterator[tuple[Message, Message]]:
    for number in range(count):
        year = 1700 + number
        call = ToolCall(f"c{number}", "search", {"q": f"ships of {year}"})
        result = RESULT.format(year=year, ships=400 + number * 37 % 211) * 3
        yield Message("assistant", tool_calls=[call]), Message("tool", result, tool_call_id=call.id, name="search")


async def ask(model: LocalModel, messages: Sequence[Message], took: Took) -> None:
    started = time.perf_counter()
    reply = await model.complete(ModelRequest(messages, TOOLS, max_output=REPLY))
    took.seconds += time.perf_counter() - started
    assert reply.usage is not None
    took.requests += 1
    took.sent += reply.usage.input_tokens
    took.read += reply.usage.input_tokens - reply.usage.cached_tokens


async def with_hysteresis(model: LocalModel, budget: ContextBudget, steps: int) -> Took:
    window = ContextWindow(
        profile=model.profile,
        budget=budget,
        artifacts=open_store("memory://").artifacts,
        run_id="hysteresis",
        record=lambda *_, **__: None,
        keep=lambda message: digest(message.encode()),
        system=SYSTEM,
        task=TASK,
        tools=TOOLS,
    )
    took = Took()
    for turn in turns(steps):
        await ask(model, (await window.request(system=SYSTEM, tools=TOOLS)).messages, took)
        for message in turn:
            await window.append(message)
    return took


async def sliding(model: LocalModel, budget: ContextBudget, steps: int) -> Took:
    counter = TokenCounter.for_profile(model.profile)
    assert budget.window is not None
    most = budget.high_water * (budget.window - RESERVE)
    pinned = counter.request + counter.message(SYSTEM) + counter.message(TASK) + counter.tools(TOOLS)
    held: deque[tuple[Message, Message]] = deque()
    took = Took()
    for turn in turns(steps):
        while pinned + sum(counter.message(message) for pair in held for message in pair) > most:
            held.popleft()
        await ask(model, [SYSTEM, TASK, *(message for pair in held for message in pair)], took)
        held.append(turn)
    return took


async def main(options: argparse.Namespace) -> None:
    budget = ContextBudget(options.window, reserve_output=RESERVE, compaction="extract")
    took: dict[str, Took] = {}
    for name, walk in (("hysteresis", with_hysteresis), ("sliding window", sliding)):
        async with LocalModel(
            options.model, context=options.window, threads=options.threads, keep_prefixes=False
        ) as model:
            await ask(model, [SYSTEM, Message("user", "Hello.")], Took())  # loads what is left to load
            done = took[name] = await walk(model, budget, options.steps)
        print(
            f"{name:15} {done.requests} steps in {done.seconds:6.1f} s, {done.sent:,} tokens sent, "
            f"{done.read:,} of them read anew ({done.read / done.sent:.0%})",
            flush=True,
        )
    one, other = took["hysteresis"], took["sliding window"]
    print(
        f"sliding window / hysteresis on {options.model}: {other.seconds / one.seconds:.1f} times the wall time, "
        f"{other.read / one.read:.1f} times the tokens read"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--window", type=int, default=1_536)
    parser.add_argument("--threads", type=int, default=2)
    anyio.run(main, parser.parse_args())
