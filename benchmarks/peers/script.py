"""What all runs share: the task, the tool's result, and what a process says of itself. Standard library only, because
it is imported in every peer's own environment.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from itertools import pairwise

SYSTEM = "You are a helper that looks things up and answers in one sentence. " * 8
TASK = "How many ships did Hull have in 1790?"
MODEL = "gpt-4o"
KEY = "none"
LIMIT = 7_168
"""For those that can be given a limit: the window of 8,192 less 1,024 for the reply."""

_RESULT = "The harbour of Hull had 1,204 ships in 1790 and the tide was high at noon; the mayor wrote it down. "

URL = os.environ.get("BENCH_URL", "")
STEPS = int(os.environ.get("BENCH_STEPS", "300"))
SIZE = int(os.environ.get("BENCH_SIZE", "1000"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
"""CPU time after which a run is ended."""
LIMITED = os.environ.get("BENCH_LIMITED") == "1"

marks: list[float] = []
_body = (_RESULT * (SIZE // len(_RESULT) + 1))[:SIZE]


def _watch() -> None:
    """End a run that takes too long, between two steps too."""
    while time.process_time() < SECONDS:
        time.sleep(0.5)
    finish()


threading.Thread(target=_watch, daemon=True).start()


def result(query: str) -> str:
    """The tool's result. Called once a step, so the time between two calls is what a step takes."""
    marks.append(time.process_time())
    return f"{len(marks)}: {_body}"


def finish() -> None:
    """Say what this process took, and end it."""
    costs = [(after - before) * 1e3 for before, after in pairwise(marks)]
    around = {
        at: sum(costs[at - 8 : at + 12]) / 20 for at in (10, 300, 1_000, 3_000) if at + 12 <= len(costs)
    }  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    last = sum(costs[-10:]) / max(len(costs[-10:]), 1)
    print("\n" + json.dumps({"steps": len(marks), "ms": around, "last": last, "rss": peak}), flush=True)
    sys.stdout.flush()
    os._exit(0)
