"""Many runs at once in one process: 200 and 2,000 runs of ten steps against a model that takes 20 ms.

Each framework in its own environment and process, with a model of its own kind that answers in that process, so that no
HTTP client is measured. wherry writes its journal to disk; the others keep nothing. The median of three processes.

    python benchmarks/concurrency.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

from peers.run import HERE, Peer, environment

PEERS = (
    Peer("wherry", "wherry"),
    Peer("agno 3.1.10", "agno", ("agno==3.1.10", "openai==3.52.0")),
    Peer("agent-framework-core 1.23.0", "agent_framework", ("agent-framework-core==1.23.0",)),
)


def measure(peer: Peer, runs: int) -> dict[str, Any]:
    """What one process says."""
    command = [environment(peer), f"many_on_{peer.script}.py", str(runs)]
    done = subprocess.run(command, cwd=HERE, env=dict(os.environ), capture_output=True, text=True, timeout=900)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"wall"')]
    if not lines:
        raise SystemExit(f"{peer.title} ended without a word:\n{done.stderr[-2_000:]}")
    return json.loads(lines[-1])


def main() -> None:
    print(f"{'':30}{'runs':>7}{'ended':>7}{'wall s':>9}{'CPU s':>8}{'idle MB':>9}{'MB over it':>12}")
    for runs, repeats in ((200, 3), (2_000, 1)):
        for peer in PEERS:
            took = [measure(peer, runs) for _ in range(repeats)]
            middle = {key: statistics.median(one[key] for one in took) for key in took[0]}
            print(
                f"{peer.title:30}{runs:>7,}{middle['done']:>7,.0f}{middle['wall']:>9.2f}{middle['cpu']:>8.2f}"
                f"{middle['idle']:>9.0f}{middle['over']:>12.1f}"
            )
    print(f"cores: {os.cpu_count()}, load: {Path('/proc/loadavg').read_text().split()[0]}")


if __name__ == "__main__":
    main()
