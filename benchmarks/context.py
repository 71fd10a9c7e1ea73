"""What the context bound costs and what it saves, measured in fresh processes.

    python benchmarks/context.py
    python benchmarks/context.py --peers [NAME ...]     beside other frameworks: see peers/run.py

Cost of a step and shares are medians of five processes; a step is one request and one tool call with a result of 1 kB.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WINDOW = 8_192
SYSTEM = "You are a helper that looks things up and answers in one sentence. " * 8
RESULT = "The harbour of Hull had 1,204 ships in 1790 and the tide was high at noon; the mayor wrote it down. " * 10


async def run(steps: int, *, window: int, size: int, url: str) -> dict[str, Any]:
    from wherry.context import ContextBudget, ContextWindow
    from wherry.journal import EventType, Journal
    from wherry.messages import Message, ToolCall, ToolSchema
    from wherry.models.protocol import ModelProfile
    from wherry.store import open_store

    store = open_store(url)
    journal = Journal.start(store, agent="bench")
    compactions = 0

    def record(type: EventType, /, **payload: Any) -> None:
        nonlocal compactions
        compactions += type is EventType.CONTEXT_COMPACTED
        journal.record(type, **payload)

    system = Message("system", SYSTEM)
    tools = [ToolSchema("search", "Searches.", {"type": "object", "properties": {"q": {"type": "string"}}})]
    bound = ContextWindow(
        profile=ModelProfile("bench", counter="qwen"),
        budget=ContextBudget(window, compaction="extract"),
        artifacts=store.artifacts,
        run_id=journal.run_id,
        record=record,
        keep=journal.keep,
        system=system,
        task=Message("user", "How many ships did Hull have in 1790?"),
        tools=tools,
    )
    result = (RESULT * (size // len(RESULT) + 1))[:size]
    times: list[float] = []
    sent = kept = quiet_sent = quiet_kept = last = peak = 0
    before: tuple[Message, ...] = ()
    for number in range(steps):
        count = compactions
        started = time.process_time()
        fitted = await bound.request(system=system, tools=tools)
        took = time.process_time() - started
        characters = [len(message.encode()) for message in fitted.messages]
        assert fitted.messages[: fitted.keep] == before[: fitted.keep]
        before = fitted.messages
        sent, last, peak = sent + fitted.tokens, fitted.tokens, max(peak, fitted.tokens + fitted.max_output)
        # By characters, because that is what a prompt cache compares; the share of tokens is the same but for a little.
        share = sum(characters[: fitted.keep]) / sum(characters)
        kept += int(share * fitted.tokens)
        if compactions == count and number:
            quiet_sent, quiet_kept = quiet_sent + fitted.tokens, quiet_kept + int(share * fitted.tokens)
        call = ToolCall(f"call_{number}", "search", {"q": f"ships of Hull, part {number}"})
        spoken = Message("assistant", f"Part {number}.", tool_calls=[call])
        answer = Message("tool", f"{number}: {result}", tool_call_id=call.id, name="search")
        started = time.process_time()
        await bound.append(spoken)
        await bound.append(answer)
        times.append(took + time.process_time() - started)
        if number % 50 == 0:
            await journal.commit()
    await journal.commit()
    around = {at: statistics.mean(times[at - 10 : at + 90]) * 1e3 for at in (10, 300, 3_000) if at + 90 <= steps}
    store.close()
    return {
        "ms": around,
        "sent": sent,
        "last": last,
        "peak": peak,
        "share": kept / sent,
        "quiet": quiet_kept / max(quiet_sent, 1),
        "compactions": compactions,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def fresh(steps: int, *, window: int = WINDOW, size: int = 1_000) -> dict[str, Any]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(steps), str(window), str(size), f"sqlite:///{Path(folder) / 'bench.db'}"]
        done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    runs = [fresh(3_100) for _ in range(5)]
    for at in ("10", "300", "3000"):
        print(
            f"cost of a step, mean of 100 from step {at:>5}: "
            f"{statistics.median(run['ms'][at] for run in runs):.3f} ms CPU"
        )
    ratio = statistics.median(run["ms"]["3000"] / run["ms"]["10"] for run in runs)
    print(f"step 3,000 / step 10: {ratio:.2f}")
    short, free = fresh(300), fresh(300, window=10_000_000)
    print(f"300 steps of 1 kB in {WINDOW:,}: {short['compactions']} compactions, {short['sent']:,} tokens sent, "
          f"unbounded {free['sent']:,} ({free['sent'] / short['sent']:.1f} times as many)")  # fmt: skip
    print(f"largest prompt + reserve: {short['peak']:,} of {WINDOW:,}")
    print(
        f"byte-identical prefix: {short['quiet']:.1%} in steps without a compaction, {short['share']:.1%} of all tokens"
    )
    print(f"50 results of 1 MB: peak RSS {fresh(50, size=1_000_000)['rss']:.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1].isdigit():
        import anyio

        steps, window, size, url = sys.argv[1:]
        print(json.dumps(anyio.run(lambda: run(int(steps), window=int(window), size=int(size), url=url))))
    elif sys.argv[1:2] == ["--peers"]:
        from peers.run import side_by_side

        side_by_side(sys.argv[2:])
    else:
        main()
