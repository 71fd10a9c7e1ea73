"""What large contents and documents cost: the door by kind and size, recall, knowledge.

    python benchmarks/door.py

CPU milliseconds, the best of three (of one for 10 MB). Contents over 64 kB are read and stored in a thread, so that the
event loop goes on meanwhile.
"""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wherry import Knowledge, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.context.counting import TokenCounter
from wherry.context.door import Door
from wherry.context.history import History
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply
from wherry.models.protocol import ModelProfile

SIZES = (1_000, 1_000_000, 10_000_000)
CAP = 1_500
STEPS = 1_000
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def rows(count: int) -> list[dict[str, object]]:
    return [{"id": n, "name": f"name {n}", "value": n / 7, "tags": ["a", "b"]} for n in range(count)]


CONTENTS: dict[str, Callable[[int], str]] = {
    "JSON": lambda size: json.dumps(rows(size // 70)),
    "JSON, cut": lambda size: json.dumps(rows(size // 70))[:-3],
    "JSON lines": lambda size: "\n".join(map(json.dumps, rows(size // 70))),
    "CSV": lambda size: "id,name,value\n" + "".join(f"{n},row {n},{n * 7}\n" for n in range(size // 20)),
    "log": lambda size: "".join(
        f"2026-01-01 00:00:{n % 60:02d} {('INFO', 'DEBUG', 'ERROR')[n % 3]} step {n} done\n" for n in range(size // 42)
    ),
    "HTML": lambda size: (
        "<!DOCTYPE html><html><body>"
        + "".join(f"<h2>Head {n}</h2><p>Some <b>text</b> of {n} &amp; so on.</p>\n" for n in range(size // 60))
    ),
    "HTML, broken": lambda size: "<html><body>" + "<!-- <a <b " * (size // 11),
    "code": lambda size: "import os\n" + "".join(f"def f{n}(a):\n    return a * {n}\n\n\n" for n in range(size // 40)),
    "bytes": lambda size: "\x00\x01\x7fELF\x02\u20ac" * (size // 8),
    "base64": lambda size: "".join(random.Random(1).choices(_LETTERS, k=min(size, 100_000))) * max(size // 100_000, 1),
    "text": lambda size: "The quick brown fox jumps over the lazy dog and goes on. " * (size // 57),
    "text, one word": lambda size: "a" * size,
}  # fmt: skip


def cpu(function: Callable[[], object], times: int = 3) -> float:
    """Milliseconds."""
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best * 1_000


def door(folder: Path) -> None:
    store = open_store(f"sqlite:///{folder / 'door.db'}")
    counter = TokenCounter.for_profile(ModelProfile("m", counter="qwen"))
    counter.text("warm")

    def ignored(*_: object, **__: object) -> None:
        return

    print(f"{'the door':16s}{'1 kB':>10s}{'1 MB':>10s}{'10 MB':>10s}   CPU ms")
    for name, make in CONTENTS.items():
        figures: list[str] = []
        for size in SIZES:
            text = make(size)
            entrance = Door(counter, control_tokens=(), artifacts=store.artifacts, run_id="run", record=ignored)
            admit = partial(entrance.admit, Message("tool", text, tool_call_id="c", name="f"), CAP)
            figures.append(f"{cpu(admit, 1 if size > 1e6 else 3):10.2f}")
        print(f"{name:16s}{''.join(figures)}", flush=True)
    store.close()
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB\n")


@tool
def look(where: int) -> str:
    """Look somewhere.

    Args:
        where: a number
    """
    return f"place{where} has number {where * 37}. " + "And this and that is to be seen there too. " * 22


def recall(folder: Path) -> None:
    calls = [ModelReply(tool_calls=[ToolCall("c", "look", {"where": n})]) for n in range(STEPS)]
    end = ModelReply(tool_calls=[ToolCall("c", "final_answer", {"answer": "done"})])
    store = open_store(f"sqlite:///{folder / 'recall.db'}")
    model = ScriptedModel([*calls, end], window=8_192, counter="qwen")
    run_id = ToolCallingAgent([look], model, store=store, max_steps=STEPS + 1).run("Look everywhere.").run_id
    history = History(store, run_id)
    first = cpu(lambda: history.find("place17"), 1)
    print(
        f"recall in a run of {STEPS:,} steps: first {first:.0f} ms, then {cpu(lambda: history.find('place99')):.1f} ms"
    )
    store.close()


def knowledge(folder: Path) -> None:
    chance = random.Random(2)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(5_000)]
    documents = folder / "policies"
    documents.mkdir()
    for n in range(12):
        parts = [f"## Rule {n}.{m}\n\n{' '.join(chance.choices(words, k=90))}.\n" for m in range(40)]
        (documents / f"policy{n}.md").write_text(f"# Policy {n}\n\n" + "\n".join(parts))
    size = sum(file.stat().st_size for file in documents.iterdir())
    store = open_store(f"sqlite:///{folder / 'knowledge.db'}")
    counter = TokenCounter.for_profile(ModelProfile("m", counter="qwen"))

    def brief(known: Knowledge) -> str:
        task = f"What do the rules say of {words[17]} and {words[99]}?"
        return known.brief(task, store=store, counter=counter, room=6_000, control_tokens=())

    known = Knowledge(documents)
    print(f"knowledge of {size:,} bytes, CPU ms:")
    print(f"  read, indexed and briefed for the first time {cpu(lambda: brief(known), 1):.0f}")
    print(f"  by another process {cpu(lambda: brief(Knowledge(documents)), 1):.0f}")
    print(f"  for a further run {cpu(lambda: brief(known)):.1f}")
    print(f"  a search {cpu(lambda: known.ranked(words[44], store)):.1f}")
    store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        door(Path(name))
        recall(Path(name))
        knowledge(Path(name))
