"""What wherry itself costs per step: processor time with a model that answers at once, journal on disk.

Each figure is the median of five fresh processes, and of 40 steps each at the start and around step 300 of one run, so
that a cost that grows with the run shows.

    python benchmarks/step.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

STEPS = 330
SPAN = 20


def measure(kind: str, store: str) -> dict[str, float]:
    """One run of `STEPS` steps in this process; ms of processor time per step at 10, at 300, and over all."""
    from wherry import CodeAgent, ScriptedModel, ToolCallingAgent, tool
    from wherry.messages import ToolCall
    from wherry.models import ModelReply, ModelRequest

    @tool
    async def lookup_async(key: str) -> str:
        """Look something up.

        Args:
            key: what to look up
        """
        return f"the value of {key} is {len(key)}"

    @tool
    def lookup(key: str) -> str:
        """Look something up.

        Args:
            key: what to look up
        """
        return f"the value of {key} is {len(key)}"

    marks: list[float] = []

    def called(name: str) -> Callable[[ModelRequest], ModelReply]:
        def reply(_: ModelRequest) -> ModelReply:
            marks.append(time.process_time())
            return ModelReply(tool_calls=[ToolCall(f"c{len(marks)}", name, {"key": f"key {len(marks)}"})])

        return reply

    def code(_: ModelRequest) -> ModelReply:
        marks.append(time.process_time())
        return ModelReply(f"```python\nx = {len(marks)}\nprint(x)\n```")

    options = {"max_steps": STEPS, "store": store}
    if kind == "code":
        agent = CodeAgent(model=ScriptedModel([code] * STEPS + ["done"]), **options)
    elif kind == "async tool":
        agent = ToolCallingAgent([lookup_async], ScriptedModel([called("lookup_async")] * STEPS + ["done"]), **options)
    else:
        agent = ToolCallingAgent([lookup], ScriptedModel([called("lookup")] * STEPS + ["done"]), **options)
    agent.run("Look things up.")
    costs = [(b - a) * 1e3 for a, b in pairwise(marks)]
    early, late = costs[2 : 2 + 2 * SPAN], costs[300 - SPAN : 300 + SPAN]
    return {
        "at 10": statistics.median(early),
        "at 300": statistics.median(late),
        "mean": statistics.fmean(costs[2:]),
        "mean late / early": statistics.fmean(late) / statistics.fmean(early),
    }


def main() -> None:
    print(f"{'agent':12} {'store':8} {'ms/step at 10':>14} {'at 300':>8} {'mean':>8} {'300/10':>8}")
    for kind in ("async tool", "sync tool", "code"):
        for where in ("disk", "memory"):
            runs: list[dict[str, float]] = []
            for _ in range(5):
                with tempfile.TemporaryDirectory() as folder:
                    store = f"sqlite:///{Path(folder) / 'wherry.db'}" if where == "disk" else "memory://"
                    out = subprocess.run(
                        [sys.executable, __file__, kind, store], check=True, capture_output=True, text=True
                    ).stdout
                runs.append(json.loads(out))
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            early, late, mean = middle["at 10"], middle["at 300"], middle["mean"]
            print(f"{kind:12} {where:8} {early:14.3f} {late:8.3f} {mean:8.3f} {late / early:8.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
    else:
        main()
