"""What the journal costs: CPU and wall time a step, bytes a step, records verified a second, resuming a run.

    python benchmarks/journal.py            on SQLite
    python benchmarks/journal.py URL        on the store of that URL, such as postgresql://...

A step is what an agent does in one: five events and two messages of 500 characters, one `send` and one `commit`.
Figures are medians of five fresh processes. CPU seconds count both threads; on a busy machine they grow, too. The run
that is resumed is a real one, of an agent that called a tool 1,000 times and then died; what is measured is the time
from opening the store to the model's next request.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from wherry import FunctionModel, ToolCallingAgent
from wherry import tool as tool_of
from wherry.journal import EventType, Journal, RunJournal, messages_of_request, read_events, verify
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.store import open_store

PROCESSES = 5
RESUMED = 1000
WINDOW = 20
"""Steps on each side of a mark that its figure is the mean of."""


async def step(journal: RunJournal, n: int) -> None:
    reply = journal.keep(Message("assistant", f"{n:06d} " + "Think, then write code. " * 20))
    answer = journal.keep(Message("user", f"{n:06d} " + "Observation: 42 is here. " * 20))
    journal.record(
        EventType.MODEL_REQUESTED,
        step=n,
        keep=2 * max(0, n - 2),
        add=[reply, answer] if n > 1 else [],
        tools_digest="a" * 64,
        prompt_digest="b" * 64,
        max_output=1024,
        tokens=2000,
        window=8192,
    )
    journal.send()
    journal.record(
        EventType.MODEL_REPLIED,
        step=n,
        message=reply,
        usage={"requests": 1, "input_tokens": 2000, "cached_tokens": 1800, "output_tokens": 120, "usd": "0"},
        seconds=1.25,
        finish_reason="stop",
        model="m",
    )
    journal.record(EventType.TOOL_CALLED, step=n, call=f"call-{n}", name="web_search", arguments={"query": "tallest"})
    await journal.commit()
    journal.record(
        EventType.TOOL_RETURNED, step=n, call=f"call-{n}", name="web_search", ok=True, preview="x" * 120, seconds=0.1
    )
    journal.record(EventType.CONTEXT_OFFLOADED, ref="a-0123456789ab", bytes=1, tokens_before=9, tokens_after=1)


async def run(url: str, steps: int) -> dict[str, float]:
    store = open_store(url)
    journal = Journal.start(store, agent="benchmark")
    journal.record(EventType.RUN_STARTED, task="measure", session=None)
    cpu: list[float] = []
    wall: list[float] = []
    for n in range(1, steps + 1):
        cpu_before, wall_before = time.process_time(), time.perf_counter()
        await step(journal, n)
        cpu.append((time.process_time() - cpu_before) * 1e6)
        wall.append((time.perf_counter() - wall_before) * 1e6)
    journal.record(EventType.RUN_FINISHED, status="completed", usage=None)
    await journal.commit()
    figures = {"cpu us a step": statistics.mean(cpu), "wall us a step": statistics.mean(wall)}
    for mark in (30, 300, 3000):
        if mark <= steps - WINDOW:
            figures[f"cpu us at step {mark}"] = statistics.median(cpu[mark - WINDOW : mark + WINDOW])
    records = 5 * steps + 2
    before, cpu_before = time.perf_counter(), time.process_time()
    if (broken := verify(store, journal.run_id)) is not None:
        raise SystemExit(f"the journal is broken: {broken}")
    figures["records verified a second"] = records / (time.perf_counter() - before)
    figures["  a second of CPU"] = records / (time.process_time() - cpu_before)
    store.close()
    before = time.perf_counter()
    store = open_store(url)
    Journal.go_on(store, journal.run_id)
    figures["ms to open a journal again"] = (time.perf_counter() - before) * 1e3
    read = sum(1 for _ in read_events(store, journal.run_id))
    last = messages_of_request(store, journal.run_id, steps)
    figures["ms to read all of it"] = (time.perf_counter() - before) * 1e3
    if (read, len(last)) != (records, 2 * (steps - 1)):
        raise SystemExit(f"{read} events and {len(last)} messages were read")
    before = time.process_time()
    for n in range(5000):
        journal.record(EventType.TOOL_CALLED, step=n, call="c", name="web_search", arguments={"query": "tallest"})
    figures["cpu us a record"] = (time.process_time() - before) / 5000 * 1e6
    store.close()
    return figures


def size(steps: int, folder: Path) -> float:
    path = folder / f"size{steps}.db"
    url = f"sqlite:///{path}"
    open_store(url).close()
    empty = path.stat().st_size
    asyncio.run(run(url, steps))
    return (path.stat().st_size - empty) / steps


def fresh(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def agent(url: str, reply: Callable[[ModelRequest], str | ModelReply]) -> ToolCallingAgent:
    def look_up(place: str) -> str:
        """Look a place up.

        Args:
            place: its name
        """
        return f"{place} is in a country. " * 20

    tool = tool_of(look_up)
    return ToolCallingAgent([tool], FunctionModel(reply), store=open_store(url), max_steps=RESUMED + 10)


def begin(url: str) -> None:
    """A run that dies in the middle of its last request."""
    made = itertools.count(1)

    def reply(request: ModelRequest) -> ModelReply:
        n = next(made)
        if n > RESUMED:
            print("{}", flush=True)
            os._exit(0)
        return ModelReply(tool_calls=[ToolCall(f"c{n}", "look_up", {"place": f"place {n}"})])

    agent(url, reply).run("Look up all places.")


def resume(url: str) -> dict[str, float]:
    asked: list[float] = []

    def reply(request: ModelRequest) -> ModelReply:
        asked.append(time.perf_counter())
        return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": "done"})])

    before, cpu_before = time.perf_counter(), time.process_time()
    it = agent(url, reply)
    (run,) = open_store(url).runs()
    result = it.resume(run.run_id)
    figures = {
        "ms to the next request": (asked[0] - before) * 1e3,
        "cpu ms in all": (time.process_time() - cpu_before) * 1e3,
    }
    if (result.output, result.steps) != ("done", RESUMED + 1) or verify(open_store(url), run.run_id) is not None:
        raise SystemExit(f"the run was not gone on with: {result}")
    return figures


def resumed(url: str) -> dict[str, float]:
    fresh("--begin", url)
    return fresh("--resume", url)


def show(title: str, figures: Mapping[str, float]) -> None:
    print(title)
    for name, value in figures.items():
        print(f"  {name:<28}{value:>12,.1f}")


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(asyncio.run(run(sys.argv[2], int(sys.argv[3])))))
        return
    if sys.argv[1:2] == ["--begin"]:
        begin(sys.argv[2])
        return
    if sys.argv[1:2] == ["--resume"]:
        print(json.dumps(resume(sys.argv[2])))
        return
    if len(sys.argv) > 1:
        results = [fresh("--one", sys.argv[1], 1000) for _ in range(PROCESSES)]
        show(sys.argv[1], {key: statistics.median(r[key] for r in results) for key in results[0]})
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mode in ("normal", "full"):
            results = [
                fresh(
                    "--one", f"sqlite:///{folder}/{mode}{i}.db?synchronous={mode}", 3100 if mode == "normal" else 1000
                )
                for i in range(PROCESSES)
            ]
            show(f"synchronous={mode}", {key: statistics.median(r[key] for r in results) for key in results[0]})
        sizes = {steps: size(steps, folder) for steps in (300, 3000)}
        show(
            "size",
            {
                "kB of 300 steps": sizes[300] * 300 / 1e3,
                **{f"bytes a step, of {steps} steps": value for steps, value in sizes.items()},
            },
        )
        show(f"resuming a run of {RESUMED:,} steps", resumed(f"sqlite:///{folder}/resumed.db"))


if __name__ == "__main__":
    main()
