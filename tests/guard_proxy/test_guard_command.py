"""`wherry guard`, as users start it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from tests.guard_proxy.strict_upstream import Plan, StrictUpstream, chat_events, serving
from tests.guard_proxy.test_proxy_requests import HELLO

pytestmark = pytest.mark.anyio


async def command(folder: Path, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WHERRY_", "OPENAI_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wherry",
        "guard",
        *arguments,
        cwd=folder,
        env={**env, "WHERRY_STORE": f"sqlite:///{folder}/store.db", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def started(folder: Path, *arguments: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """The process, and what clients take for their base URL."""
    process = await command(folder, *arguments, "--port", "0", "--json")
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        yield process, json.loads(line)["url"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.slow
async def test_what_is_said_first(tmp_path: Path) -> None:
    upstream = StrictUpstream(4_096)
    async with serving(upstream.handle) as url:
        process = await command(tmp_path, "--upstream", url, "--port", "0")
        assert process.stdout is not None
        async with asyncio.timeout(60):
            said = (await process.stdout.readuntil(b"ANTHROPIC_BASE_URL")).decode()
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0
    assert "wherry guard listens on http://127.0.0.1:" in said
    assert f"upstream {url}: gpt-4o-small, window 4,096 tokens (as it says)" in said
    assert "export OPENAI_BASE_URL=http://127.0.0.1:" in said


@pytest.mark.slow
async def test_a_stream_comes_to_its_end_after_sigterm(tmp_path: Path) -> None:
    upstream = StrictUpstream()
    events = chat_events({"id": "c", "created": 1, "model": "m"}, {"content": "one two"}, "stop", {}, {})
    upstream.plans = [Plan(stream=[events[0], b"".join(events[1:])], hold=True)]
    async with (
        serving(upstream.handle) as upstream_url,
        started(tmp_path, "--upstream", upstream_url) as (process, url),
        httpx.AsyncClient(timeout=30) as client,
    ):
        request = client.build_request("POST", f"{url}/chat/completions", json={**HELLO, "stream": True})
        answer = await client.send(request, stream=True)
        pieces = answer.aiter_bytes()
        got = await anext(pieces)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        async with asyncio.timeout(20):
            await _refused(url)
        upstream.release.set()
        async for piece in pieces:
            got += piece
        async with asyncio.timeout(20):
            code = await process.wait()
    assert b"[DONE]" in got
    assert code == 0


async def _refused(url: str) -> None:
    """Wait until nobody is let in any more."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionError:
            return
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--upstream", "nonsense"], "is no address of a server"),
        (["--upstream", "http://127.0.0.1:1/v1", "--host", "0.0.0.0"], "nothing says who may ask"),
        (["--upstream", "http://127.0.0.1:1/v1", "--host", "192.0.2.7", "--token", "x" * 20], "cannot be listened on"),
        (["--upstream", "http://127.0.0.1:1/v1", "--window", "10"], "holds no conversation"),
        (["--upstream", "http://127.0.0.1:1/v1", "--limit", "pounds=3"], "is none"),
        (["--upstream", "http://127.0.0.1:1/v1", "--limit", "seconds=3"], "no limit of seconds"),
        (["--upstream", "http://127.0.0.1:1/v1", "--upstream-key", "WHERRY_NO_SUCH"], "has no WHERRY_NO_SUCH"),
        (["--upstream", "http://127.0.0.1:1/v1", "--keys", "no-such-file"], "cannot be read"),
        (["--upstream", "http://127.0.0.1:1/v1", "--port", "99999"], "is no port"),
        ([], "--upstream"),
    ],
)
async def test_what_cannot_be_is_said_with_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    process = await command(tmp_path, *arguments)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert said in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.slow
async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = await command(tmp_path, "--upstream", "http://127.0.0.1:1/v1", "--port", port)
        _, err = await process.communicate()
    assert process.returncode == 2
    assert f"127.0.0.1:{port} is in use" in err.decode()
