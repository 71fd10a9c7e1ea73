"""What the sandbox costs: `python benchmarks/sandbox.py`. Medians of five fresh processes.

Processor time is of the host and everything inside together, wall time is what a caller waits. With `--peers`: beside
CPython itself, wherry's other tiers and smolagents' interpreter, each in a process of its own; wall times.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.run import HERE, PEERS, environment

PROCESSES = 5
SESSIONS = 40
SNIPPETS = 400


async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> int:
    return 1


def inside(pid: int) -> list[int]:
    """The processes that descend from `pid`."""
    own: list[int] = []
    with contextlib.suppress(OSError):  # a process may end while it is looked at
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            own += [int(child) for child in file.read_text().split()]
    return own + [deep for child in own for deep in inside(child)]


def cpu(pid: int) -> float:
    """Seconds of a process and of those that it waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0  # gone; its parent has counted it
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def all_cpu() -> float:
    return time.process_time() + sum(cpu(pid) for pid in inside(os.getpid()))


def pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


async def measure() -> dict[str, float]:
    from wherry.sandbox import get_sandbox

    results: dict[str, float] = {}
    started, spent = time.perf_counter(), all_cpu()
    sandbox = get_sandbox("namespaces")
    results["sandbox start, wall ms"] = (time.perf_counter() - started) * 1e3
    first = await sandbox.open(tools=["tool"])
    await first.run("1", call_tool=tool)
    results["sandbox start to first result, CPU ms"] = (all_cpu() - spent) * 1e3

    started, spent = time.perf_counter(), all_cpu()
    for _ in range(SESSIONS):
        session = await sandbox.open(tools=["tool"])
        await session.run("1", call_tool=tool)
        await session.close()
    wall = time.perf_counter() - started
    results["fresh session to first result and closed, CPU ms"] = (all_cpu() - spent) / SESSIONS * 1e3
    results["the same, wall ms"] = wall / SESSIONS * 1e3
    results["sessions a second, one after another"] = SESSIONS / wall

    async def each(code: str, times: int = SNIPPETS, *, pause: bool = False) -> float:
        waited: list[float] = []
        for _ in range(times):
            started = time.perf_counter()
            await first.run(code, call_tool=tool)
            waited.append(time.perf_counter() - started)
            if pause:
                await asyncio.sleep(0)  # the session is stopped as soon as the loop turns, and started again
        return statistics.median(waited) * 1e3  # a mean would tell of what else runs on the machine

    plain = await each("x = 1 + 1")
    results["snippet right after another, wall ms"] = plain
    results["snippet in a session that was stopped, wall ms"] = await each("x = 1 + 1", pause=True)
    results["tool call round trip, wall ms"] = (await each("for _ in range(50): tool()", 20) - plain) / 50

    before = set(inside(os.getpid()))
    opened = [await sandbox.open(tools=[]) for _ in range(10)]
    for session in opened:
        await session.run("1", call_tool=tool)
    fresh = set(inside(os.getpid())) - before
    results["idle session, PSS MiB"] = statistics.median(pss(pid) for pid in fresh)
    await sandbox.close()
    return results


PEER_ROWS = (
    ("CPython, no wall", ("cpython",)),
    *((f"wherry, {tier}", ("wherry", tier)) for tier in ("namespaces", "landlock", "docker", "wasm", "monty")),
    ("smolagents 1.26.0, local", ("smolagents",)),
)


def side_by_side() -> None:
    plain: dict[str, float] = {}
    print(f"{'':<26}{'first ms':>10}{'snippet ms':>12}{'tool ms':>10}{'sieve':>8}{'loops':>8}{'fib':>8}   (x CPython)")
    for title, (script, *arguments) in PEER_ROWS:
        peer = next((peer for peer in PEERS if peer.script == script), PEERS[0])
        python = environment(peer) if script == "smolagents" else sys.executable
        command = [python, str(HERE / f"code_on_{script}.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{title:<26}  not here: {done.stderr.strip().splitlines()[-1][:90]}")
            continue
        found = json.loads(done.stdout)
        plain = plain or found
        times = [found[name] * 1e3 for name in ("first", "snippet", "tool")]
        ratios = "".join(f"{found[name] / plain[name]:8.1f}" for name in ("sieve", "loops", "fib"))
        print(f"{title:<26}{times[0]:10.1f}{times[1]:12.3f}{times[2]:10.3f}{ratios}")


def main() -> None:
    if "--peers" in sys.argv:
        side_by_side()
        return
    if "--once" in sys.argv:
        print(json.dumps(asyncio.run(measure())))
        return
    command = [sys.executable, __file__, "--once"]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(PROCESSES)]
    show: Callable[[str], float] = lambda name: statistics.median(run[name] for run in runs)  # noqa: E731
    for name in runs[0]:
        print(f"{name:<50} {show(name):10.3f}")


if __name__ == "__main__":
    main()
