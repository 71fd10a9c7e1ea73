"""What the group chats share: what is said in them, and what is told of them. Standard library only."""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import time
from itertools import pairwise

NAMES = ("ann", "bo", "cy", "dee", "eli")
TASK = "Talk about harbours."
SIZE = 10_000
"""Characters of a message: random words, which nothing could keep in less room."""
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "100"))
WINDOW = int(os.environ.get("BENCH_WINDOW", "8192"))
CHOOSES = os.environ.get("BENCH_CHOOSES") == "1"
"""Whether a model chooses who speaks."""

_chance = random.Random(1)
_sent: list[int] = []
_said: list[int] = []
_at: list[float] = []
_chosen = 0


def says(characters: int) -> str:
    """The reply of a participant's model, which was sent so many characters."""
    _at.append(time.process_time())
    _sent.append(characters)
    text = " ".join(f"{_chance.getrandbits(40):x}" for _ in range(SIZE // 11))
    _said.append(len(text))
    return text


def chooses(characters: int) -> str:
    """The reply of the model that chooses who speaks: one after the other."""
    global _chosen
    _sent.append(characters)
    _chosen += 1
    return NAMES[(_chosen - 1) % len(NAMES)]


def tell(stored: int, **more: float) -> None:
    """Print what a chat sent, took and keeps: `stored` characters of it."""
    steps = [after - before for before, after in pairwise(_at)]
    third = max(1, len(steps) // 3)
    total = sum(_said)
    told = {
        "rounds": len(_said),
        "said": total,
        "sent": sum(_sent),
        "most": max(_sent),
        "stored": stored / total,
        "early": statistics.median(steps[:third]) * 1_000,
        "late": statistics.median(steps[-third:]) * 1_000,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
        **{name: value / total for name, value in more.items()},
    }
    print("\n" + json.dumps(told), flush=True)
