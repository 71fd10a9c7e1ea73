"""What the journal costs: CPU and wall time a step, bytes a step, records verified a second, going on with a run.

    python benchmarks/journal.py            on SQLite
    python benchmarks/journal.py URL        on the store of that URL, such as postgresql://...

A step is what an agent does in one: five events and two messages of 500 characters, one `send` and one `commit`.
Figures are medians of five fresh processes. CPU seconds count both threads; on a busy machine they grow, too.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from wherry.journal import EventType, Journal, RunJournal, messages_of_request, read_events, verify
from wherry.messages import Message
from wherry.store import open_store

PROCESSES = 5
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
    path = folder / "size.db"
    url = f"sqlite:///{path}"
    open_store(url).close()
    empty = path.stat().st_size
    asyncio.run(run(url, steps))
    return (path.stat().st_size - empty) / steps


def fresh(url: str, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", url, str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show(title: str, figures: Mapping[str, float]) -> None:
    print(title)
    for name, value in figures.items():
        print(f"  {name:<28}{value:>12,.1f}")


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(asyncio.run(run(sys.argv[2], int(sys.argv[3])))))
        return
    if len(sys.argv) > 1:
        results = [fresh(sys.argv[1], 1000) for _ in range(PROCESSES)]
        show(sys.argv[1], {key: statistics.median(r[key] for r in results) for key in results[0]})
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mode in ("normal", "full"):
            results = [
                fresh(f"sqlite:///{folder}/{mode}{i}.db?synchronous={mode}", 3100 if mode == "normal" else 1000)
                for i in range(PROCESSES)
            ]
            show(f"synchronous={mode}", {key: statistics.median(r[key] for r in results) for key in results[0]})
        show("size", {"bytes a step, of 300 steps": size(300, folder)})


if __name__ == "__main__":
    main()
