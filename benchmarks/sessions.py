"""A conversation over very many runs: memory, time per turn, and what the store grows by.

    python benchmarks/sessions.py [--turns 10000] [--runs 1000]

The first part does what a run does with its session, again and again: load the state, make a window of it, make a
request, take in the answer, save the state. The second is whole runs of an agent, with the journal of each on disk.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import psutil

from wherry import ContextBudget, FunctionModel, ToolCallingAgent, open_store
from wherry.context import ContextWindow
from wherry.messages import Message, canonical, digest, parse
from wherry.models import ModelProfile
from wherry.store import Store

SYSTEM = Message("system", "You keep the diary of a harbour and answer in one sentence. " * 4)
BUDGET = ContextBudget(4_096, reserve_output=256, compaction="extract")
PARTS = 10


def question(turn: int) -> str:
    return f"On day {turn} there were {turn * 37 % 211} ships and the weather was fine. What was it like before? " * 2


async def state_turn(store: Store, turn: int) -> None:
    """What a run does with its session."""
    saved = store.load_session("diary")
    window = ContextWindow(
        profile=ModelProfile("bench", counter="qwen"),
        budget=BUDGET,
        artifacts=store.artifacts,
        run_id=f"run{turn}",
        record=lambda *_, **__: None,
        keep=lambda message: digest(message.encode()),
        system=SYSTEM,
        task=Message("user", question(turn)),
        state=None if saved is None else parse(saved),
    )
    await window.request(system=SYSTEM, tools=())
    await window.append(Message("assistant", f"It was much the same: {turn * 31 % 197} ships."))
    store.save_session("diary", canonical(window.state()))


async def measured(turns: int, folder: Path, turn: Callable[[int], Awaitable[object]]) -> None:
    process = psutil.Process()
    size = max(turns // PARTS, 1)
    rows: list[tuple[float, float, float]] = []
    for part in range(PARTS):
        started = time.process_time()
        for number in range(part * size, (part + 1) * size):
            await turn(number)
        took = (time.process_time() - started) / size * 1e3
        gc.collect()
        stored = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()) / 1e6
        rows.append((took, process.memory_info().rss / 2**20, stored))
        print(
            f"  {(part + 1) * size:8,} turns: {took:6.2f} ms CPU a turn, RSS {rows[-1][1]:5.0f} MB, "
            f"store {stored:7.1f} MB"
        )
    half = PARTS // 2
    one, two = rows[half - 1][2] - rows[0][2], rows[-1][2] - rows[half][2]
    print(
        f"  last part / second: {rows[-1][0] / rows[1][0]:.2f} times the time; RSS from half way on "
        f"{rows[-1][1] - rows[half - 1][1]:+.1f} MB; the store grew by {one:.1f} MB in parts 2 to {half}, "
        f"by {two:.1f} MB in parts {half + 2} to {PARTS}"
    )


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(f"sqlite:///{folder / 'state.db'}")
        print(f"{options.turns:,} turns of one session: its state")
        await measured(options.turns, folder, lambda turn: state_turn(store, turn))
        store.close()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(f"sqlite:///{folder / 'runs.db'}")
        model = FunctionModel(lambda _: "It was much the same.", counter="qwen", window=4_096)
        agent = ToolCallingAgent(model=model, store=store, context=BUDGET)
        print(f"{options.runs:,} runs of one session: journal and all")
        await measured(options.runs, folder, lambda turn: agent.arun(question(turn), session="diary"))
        store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1_000)
    anyio.run(main, parser.parse_args())
