"""Five clients, unchanged, through the proxy to a small llama.cpp server with a window of 2,048 tokens: 100 turns each.

    python benchmarks/peers/talks.py [CLIENT ...]

Each runs in an environment of its own, with all of its history; without the proxy every one of them overflows.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import run

from wherry import open_store
from wherry.guard.proxy import ProxySettings, UpstreamSpec, running
from wherry.models.api_key import ApiKey
from wherry.models.local import pull
from wherry.models.local.server import ServerSettings, close_all, cpu_count, shared

WINDOW = 2_048
CLIENTS = {
    "openai": run.Peer("openai SDK 3.52.0", "openai"),
    "litellm": run.Peer("LiteLLM 1.106.2", "litellm", ("litellm==1.106.2",)),
    "autogen": run.Peer("AutoGen 0.7.5", "autogen", ("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5")),
    "smolagents": run.Peer("smolagents 1.26.0", "smolagents", ("smolagents[openai]==1.26.0",)),
    "pydantic_ai": run.Peer("pydantic-ai 2.68.0", "pydantic_ai", ("pydantic-ai-slim[openai]==2.68.0",)),
}


async def main(names: list[str]) -> None:
    server = shared(ServerSettings(Path(pull("smollm2-135m")), context=WINDOW, slots=1, threads=cpu_count()))
    endpoint = await server.ready()
    spec = UpstreamSpec.parse(endpoint.url, ApiKey(endpoint.key, "llama.cpp"))
    store = open_store("memory://")
    async with running(ProxySettings((spec,), port=0), store=store) as proxy:
        place = await proxy.upstreams[0].first_place()
        print(f"window {place.window if place else '?'} tokens, {run.HERE.name}, through {proxy.url}")
        print(
            f"{'':22}{'turns':>7}{'failed':>8}{'requests':>10}{'folded':>8}{'shortened':>11}{'overflows':>11}{'s':>8}"
        )
        for name in names:
            peer = CLIENTS[name]
            before = counts(proxy)
            process = await asyncio.create_subprocess_exec(
                await asyncio.to_thread(run.environment, peer),
                f"talk_{name}.py",
                cwd=run.HERE,
                env={**os.environ, "BENCH_URL": proxy.url, "BENCH_KEY": f"sk-{name}-000000", "OPENAI_API_KEY": "none"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            if process.returncode or not out:
                raise SystemExit(f"{peer.title} ended without a word:\n{err.decode()[-3_000:]}")
            told = json.loads(out.decode().splitlines()[-1])
            now = [new - old for new, old in zip(counts(proxy), before, strict=True)]
            print(
                f"{peer.title:22}{told['turns']:>7}{len(told['failed']):>8}{now[0]:>10.0f}{now[1]:>8.0f}{now[2]:>11.0f}"
                f"{now[3]:>11.0f}{told['seconds']:>8}",
                flush=True,
            )
            for said in told["failed"][:3]:
                print(f"    {said}")
    store.close()
    close_all()


def counts(proxy: object) -> list[float]:
    """Requests, those that were folded and shortened, overflows that the server told of."""
    lines = [line.rsplit(" ", 1) for line in proxy.metrics.text().splitlines() if not line.startswith("#")]

    def total(*words: str) -> float:
        return sum(float(value) for name, value in lines if all(word in name for word in words))

    return [
        total("requests_total", "chat/completions"),
        total("changed_total", "folded"),
        total("changed_total", "shortened"),
        total("failures_total", "ContextOverflow"),
    ]


asyncio.run(main(sys.argv[1:] or [*CLIENTS]))
