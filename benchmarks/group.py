"""What a group chat sends, stores and takes, as it gets longer: five agents, 10 kB each time, one speaker a round.

    python benchmarks/group.py [ROUNDS] [WINDOW]

The texts are random words, which nothing could keep in less room. Sent: characters of all requests together. Stored: of
messages, and the whole database with its journals, prompts and indexes.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from wherry import FunctionModel, GroupChat, ToolCallingAgent, open_store
from wherry.models import ModelRequest

SIZE = 10_000
NAMES = ("ann", "bo", "cy", "dee", "eli")


def main(rounds: int, window: int) -> None:
    chance = random.Random(1)
    sent: list[int] = []
    said: list[int] = []
    at: list[float] = []

    def answer(request: ModelRequest) -> str:
        at.append(time.process_time())
        sent.append(sum(len(message.content) for message in request.messages))
        text = " ".join(f"{chance.getrandbits(40):x}" for _ in range(SIZE // 11))
        said.append(len(text))
        return text

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wherry.db"
        store = open_store(f"sqlite:///{path}")
        model = FunctionModel(answer, window=window)
        agents = [ToolCallingAgent((), model, name=name, description="Talks.") for name in NAMES]
        GroupChat(agents, speaker="round_robin", max_rounds=rounds, store=store).run("Talk about harbours.")
        store.close()
        with closing(sqlite3.connect(path)) as database:
            messages = database.execute("SELECT sum(length(body)) FROM messages").fetchone()[0]
        whole = path.stat().st_size
    steps = [after - before for before, after in pairwise(at)]
    third = max(1, len(steps) // 3)
    total = sum(said)
    print(f"{rounds} rounds, window {window:,}: {total:,} characters said")
    print(f"  sent      {sum(sent):,} characters, {max(sent):,} at most in a request")
    print(f"  stored    {messages / total:.2f} times that in messages, {whole / total:.2f} times in the whole file")
    early, late = statistics.median(steps[:third]), statistics.median(steps[-third:])
    print(f"  a turn    {early * 1000:.1f} ms of CPU in the first third, {late * 1000:.1f} in the last")
    print(f"  memory    {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 8_192)
