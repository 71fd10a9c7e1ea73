"""What the talks through the proxy share: what is said, and what is told of it. Standard library only."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable

URL = os.environ["BENCH_URL"]
KEY = os.environ["BENCH_KEY"]
MODEL = "small"
SYSTEM = "You are a helper in a harbour office. You answer in one short sentence."
TURNS = int(os.environ.get("BENCH_TURNS", "100"))
OUTPUT = 24
"""Tokens of a reply."""


def question(turn: int) -> str:
    """A turn's words; each twentieth brings a document that is larger than the whole window."""
    if turn % 20 == 10:
        return f"Here is list {turn}. " + " ".join(f"Ship {n} carried {n * 7 % 93} barrels." for n in range(1_500))
    return f"Turn {turn}: ship {turn} came with {turn * 13 % 97} barrels of herring. How many barrels were it?"


def talk(turn: Callable[[int, str], object]) -> None:
    """Take all turns, and print what came of it."""
    done, failed = 0, []
    started = time.monotonic()
    for number in range(TURNS):
        try:
            turn(number, question(number))
            done += 1
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            failed.append(f"{type(error).__name__}: {error}"[:300])
    seconds = time.monotonic() - started
    print(json.dumps({"turns": done, "failed": failed, "seconds": round(seconds, 1)}), flush=True)
