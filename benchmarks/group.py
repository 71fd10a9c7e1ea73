"""What a group chat sends, keeps and takes, as it gets longer: five agents, 10 kB each time, one speaker a round.

    python benchmarks/group.py [ROUNDS] [WINDOW]     100 and 8,192 unless told

wherry's beside those of AutoGen and AG2, each in a process and an environment of its own, with a model that answers at
once; once with a fixed order and once with a model that chooses who speaks. Sent: characters of all requests together.
Kept: what is stored of the messages (AutoGen: its `save_state`; AG2: its members' lists), by what was said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import run

OURS = run.PEERS[0]
GROUPS = (
    OURS,
    replace(OURS, title="  a model chooses", limited=True),
    run.Peer("AutoGen 0.7.5", "autogen", ("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5")),
    run.Peer("  a model chooses", "autogen", ("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5"), limited=True),
    run.Peer("AG2 0.14.1", "ag2", ("autogen==0.14.1", "openai==3.52.0")),
    run.Peer("  a model chooses", "ag2", ("autogen==0.14.1", "openai==3.52.0"), limited=True),
)
"""`limited`: by a model that chooses."""


def main(rounds: int, window: int) -> None:
    print(f"{rounds} rounds, five agents, 10 kB each time; wherry's window {window:,} tokens\n")
    print(
        f"{'':20}{'characters sent':>17}{'in a request':>14}{'kept':>7}{'ms, first third':>17}{'last':>8}{'RSS MB':>8}"
    )
    for peer in GROUPS:
        given = {"ROUNDS": rounds, "WINDOW": window, "CHOOSES": int(peer.limited)}
        done = subprocess.run(
            [run.environment(peer), f"group_{peer.script}.py"],
            cwd=run.HERE,
            env={**os.environ, **{f"BENCH_{name}": str(value) for name, value in given.items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"rounds"')]
        if not lines:
            raise SystemExit(f"{peer.title.strip()} ended without a word:\n{done.stderr[-2_000:]}")
        told = json.loads(lines[-1])
        title = peer.title if told["rounds"] == rounds else f"{peer.title} ({told['rounds']})"
        print(
            f"{title:20}{told['sent']:>17,}{told['most']:>14,}{told['stored']:>7.2f}{told['early']:>17.1f}"
            f"{told['late']:>8.1f}{told['rss']:>8.0f}",
            flush=True,
        )
        if "file" in told:
            print(f"{'':20}(its whole file, with journals, prompts and indexes: {told['file']:.2f})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 8_192)
