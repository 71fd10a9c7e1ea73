"""What the interpreters of `sandbox.py --peers` are asked to do, and how they are timed. Standard library only."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

PROGRAMS = {
    "sieve": """
def sieve(n):
    marks = [True] * (n + 1)
    for i in range(2, int(n ** 0.5) + 1):
        if marks[i]:
            for j in range(i * i, n + 1, i):
                marks[j] = False
    return sum(marks) - 2
sieve(200000)
""",
    "loops": """
def loops():
    total = 0
    for i in range(1000):
        for j in range(1000):
            total += i ^ j
    return total
loops()
""",
    "fib": """
def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)
fib(22)
""",
}
ANSWERS = {"sieve": 17984, "loops": 511213536, "fib": 17711}
SNIPPETS, CALLS, ENOUGH_SECONDS = 200, 50, 3.0


def measure(run: Callable[[str], object], *, started: float) -> None:
    """Print what an interpreter takes.

    Args:
        run: runs a snippet in one session and gives its last expression's value; `tool()` gives 1 there.
        started: when making it was begun, by `time.perf_counter`.
    """
    assert run("6 * 7") == 42
    found = {"first": time.perf_counter() - started}
    waited: list[float] = []
    for _ in range(SNIPPETS):
        before = time.perf_counter()
        run("x = 1 + 1")
        waited.append(time.perf_counter() - before)
    found["snippet"] = statistics.median(waited)
    calls: list[float] = []
    for _ in range(10):
        before = time.perf_counter()
        run(f"for _ in range({CALLS}):\n    tool()")
        calls.append((time.perf_counter() - before - found["snippet"]) / CALLS)
    found["tool"] = statistics.median(calls)
    for name, code in PROGRAMS.items():
        best, spent = float("inf"), 0.0
        for _ in range(5):
            if spent > ENOUGH_SECONDS:
                break
            before = time.perf_counter()
            try:
                value = run(code)
            except Exception:  # each interpreter has an error of its own for "too much"
                break
            taken = time.perf_counter() - before
            best, spent = min(best, taken), spent + taken
            assert value == ANSWERS[name], (name, value)
        found[name] = best
    print(json.dumps(found))
