"""What the runs of `concurrency.py` share: the model's time, the number of steps, and what a process says of itself.
Standard library only, because it is imported in every peer's own environment.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
STEPS = 10
MODEL_SECONDS = 0.02
TASK = "How many ships did Hull have in 1790?"
SYSTEM = "You are a helper that looks things up and answers in one sentence."
RESULT = "The harbour of Hull had 1,204 ships in 1790."


async def thinking() -> None:
    """The time that the model takes."""
    await asyncio.sleep(MODEL_SECONDS)


def _resident() -> float:
    """MB in memory now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def measure(run: Callable[[int], Awaitable[bool]]) -> None:
    """Do `RUNS` runs at once and print what they took; `run` says whether it came to its end."""
    for number in range(3):  # whatever loads at first use
        await run(-1 - number)
    gc.collect()
    idle = _resident()
    wall, cpu = time.perf_counter(), time.process_time()
    done = await asyncio.gather(*(run(number) for number in range(RUNS)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "idle": idle, "over": peak - idle, "done": sum(done)}), flush=True)
