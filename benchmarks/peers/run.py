"""Runs the same conversation on each framework, in its own environment and process, against the same stub server."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STEPS, LONG = 300, 3_030
TIMEOUT = 300.0
SECONDS, LONG_SECONDS = 40.0, 20.0
"""CPU time that a run gets; those that get slower with each step do not reach its end."""
LITELLM = "litellm==1.106.2"
"""Only for the vocabularies in it: the limiters count with tiktoken, which would fetch them from elsewhere."""


@dataclass(frozen=True)
class Peer:
    title: str
    script: str
    packages: tuple[str, ...] = ()
    """Empty: this environment."""
    limited: bool = False


PEERS = (
    Peer("wherry", "wherry"),
    Peer("smolagents 1.26.0", "smolagents", ("smolagents[openai]==1.26.0",)),
    Peer("AutoGen 0.7.5", "autogen", ("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5")),
    Peer("  token-limited", "autogen", ("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5"), limited=True),
    Peer("AG2 0.14.1", "ag2", ("autogen==0.14.1", "openai==3.52.0")),
    Peer("  token limiter", "ag2", ("autogen==0.14.1", "openai==3.52.0"), limited=True),
    Peer("pydantic-ai 2.68.0", "pydantic_ai", ("pydantic-ai-slim[openai]==2.68.0",)),
    Peer("agno 3.1.10", "agno", ("agno==3.1.10", "openai==3.52.0")),
    Peer("  compaction", "agno", ("agno==3.1.10", "openai==3.52.0"), limited=True),
)


def environment(peer: Peer) -> str:
    """The interpreter of a peer's environment, made by uv if need be."""
    if not peer.packages:
        return sys.executable
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wherry" / "benchmarks" / "peers"
    folder = cache / peer.script
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists() or done.read_text() != f"{LITELLM} {peer.packages}":
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *peer.packages], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "--no-deps", LITELLM], check=True)
        done.write_text(f"{LITELLM} {peer.packages}")
    return str(python)


@contextmanager
def stub(steps: int, mode: str) -> Generator[str]:
    """The address of a stub server that lives as long as the block."""
    command = [sys.executable, str(HERE / "stub.py"), str(steps), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def run(peer: Peer, steps: int, *, mode: str, size: int = 1_000, seconds: float = 300.0) -> dict[str, Any]:
    """What the process says of itself, and what the server was sent."""
    python = environment(peer)
    installed = Path(python).parents[1] / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    vocabularies = str(installed / "litellm" / "litellm_core_utils" / "tokenizers")
    with stub(steps, mode) as url:
        given = {"URL": url, "STEPS": steps, "SIZE": size, "SECONDS": seconds, "LIMITED": int(peer.limited)}
        command = [python, f"on_{peer.script}.py"]
        try:
            done = subprocess.run(
                command,
                cwd=HERE,
                env={
                    **os.environ,
                    "TIKTOKEN_CACHE_DIR": vocabularies,
                    **{f"BENCH_{k}": str(v) for k, v in given.items()},
                },
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            with urllib.request.urlopen(f"{url}/report") as answer:
                report = json.load(answer)
            return {"steps": report["requests"], "ms": {}, "last": math.nan, "rss": math.nan, **report}
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"steps"')]
        if not lines:
            raise SystemExit(f"{peer.title.strip()} ended without a word:\n{done.stderr[-2_000:]}")
        with urllib.request.urlopen(f"{url}/report") as answer:
            return {**json.loads(lines[-1]), **json.load(answer)}


def _cost(long: dict[str, Any], at: int) -> str:
    if str(at) in long["ms"]:
        return f"{long['ms'][str(at)]:.1f}"
    return f"({long['last']:.0f} at {long['steps']:,})" if long["steps"] < at else "-"


def side_by_side(only: Sequence[str] = ()) -> None:
    """Print the table, a line as it is measured."""
    print(
        f"{STEPS} steps, results of 1 kB, a window of 8,192 tokens; CPU from one run of up to {LONG:,} steps; "
        f"RSS with 50 results of 1 MB.\n(Steps in brackets: what {SECONDS:.0f} s of CPU time were enough for.)"
    )
    print(
        f"{'':20}{'characters':>12}{'tokens':>11}{'last':>9}{'largest':>9}{'over':>6}{'prefix':>8}{'quiet':>7}"
        f"{'ms at 10':>10}{'300':>8}{'3,000':>17}{'RSS MB':>8}"
    )
    for peer in PEERS:
        if only and peer.script not in only:
            continue
        sent = run(peer, STEPS, mode="exact", seconds=SECONDS)
        long = run(peer, LONG, mode="light", seconds=LONG_SECONDS)
        large = run(peer, 50, mode="light", size=1_000_000, seconds=SECONDS)
        quiet = sent["quiet_cached"] / max(sent["quiet_tokens"], 1)
        title = peer.title if sent["steps"] >= STEPS else f"{peer.title} ({sent['steps']})"
        print(
            f"{title:20}{sent['characters']:12,}{sent['tokens']:11,}{sent['last_tokens']:9,}"
            f"{sent['largest_tokens']:9,}{sent['over_window']:6}{sent['cached'] / sent['talk_tokens']:8.1%}"
            f"{quiet:7.1%}{_cost(long, 10):>10}{_cost(long, 300):>8}{_cost(long, 3_000):>17}{large['rss']:8.0f}",
            flush=True,
        )
