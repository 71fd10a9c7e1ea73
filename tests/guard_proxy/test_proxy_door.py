"""Who gets in, how much of a request is read, and what happens to slow ones; keys, limits in files, the end."""

from __future__ import annotations

import asyncio
import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from tests.guard_proxy.strict_upstream import Plan, StrictUpstream, chat_events, guarded
from tests.guard_proxy.test_proxy_requests import HELLO, post

from wherry import open_store
from wherry.errors import ConfigurationError
from wherry.guard.proxy import Proxy, ProxySettings, UpstreamSpec
from wherry.models.api_key import ApiKey

pytestmark = pytest.mark.anyio

SPEC = (UpstreamSpec("http://127.0.0.1:1/v1"),)
TOKEN = ApiKey("a-token-of-32-characters-or-more", "test")


def request(proxy: Proxy, body: bytes, *lines: str, length: int | None = None, host: str | None = None) -> bytes:
    host = f"127.0.0.1:{proxy.port}" if host is None else host
    head = [f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body) if length is None else length}\r\n\r\n"]).encode() + body


async def raw(proxy: Proxy, *pieces: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def test_another_address_wants_a_token() -> None:
    with pytest.raises(ConfigurationError, match="nothing says who may ask"):
        ProxySettings(SPEC, host="0.0.0.0")
    assert ProxySettings(SPEC, host="0.0.0.0", token=TOKEN).token is TOKEN
    assert ProxySettings(SPEC, host="::1").on_loopback
    with pytest.raises(ConfigurationError, match="too short"):
        ProxySettings(SPEC, token=ApiKey("short", "test"))
    assert "32-characters" not in repr(ProxySettings(SPEC, token=TOKEN))


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://host/v1", "http://user:pass@host/v1"])
def test_wrong_addresses(url: str) -> None:
    with pytest.raises(ConfigurationError):
        UpstreamSpec.parse(url)


def test_addresses() -> None:
    assert UpstreamSpec.parse("http://127.0.0.1:8080").url == "http://127.0.0.1:8080/v1"
    assert UpstreamSpec.parse("http://127.0.0.1:8080/v1/#qwen").model == "qwen"


async def test_the_token_opens_and_does_not_go_on() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, token=TOKEN) as proxy:
        nobody = await post(proxy, HELLO, authorization="Bearer wrong")
        as_key = await post(proxy, HELLO, authorization=f"Bearer {TOKEN.reveal()}")
        beside = await post(proxy, HELLO, authorization="Bearer sk-mine", **{"x-wherry-token": TOKEN.reveal()})
        async with httpx.AsyncClient() as client:
            metrics = await client.get(proxy.url.replace("/v1", "/metrics"))
            health = await client.get(proxy.url.replace("/v1", "/health"))
    assert (nobody.status_code, as_key.status_code, beside.status_code) == (401, 200, 200)
    assert (metrics.status_code, health.status_code) == (401, 200)
    assert "authorization" not in upstream.seen[0].headers
    assert upstream.seen[1].headers["authorization"] == "Bearer sk-mine"
    assert "x-wherry-token" not in upstream.seen[1].headers


async def test_keys_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOBS_KEY", "wk-bob-123456")
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[ann]\nsha256 = "{sha256(b"wk-ann-123456").hexdigest()}"\nlimits = {{ requests = 1 }}\n'
        '[bob]\nkey_env = "BOBS_KEY"\n'
    )
    upstream = StrictUpstream()
    async with guarded(upstream, keys=(file,)) as proxy:
        ann = [(await post(proxy, HELLO, authorization="Bearer wk-ann-123456")).status_code for _ in range(2)]
        bob = [(await post(proxy, HELLO, **{"x-api-key": "wk-bob-123456"})).status_code for _ in range(2)]
        other = await post(proxy, HELLO, authorization="Bearer wk-eve-123456")
        none = await post(proxy, HELLO)
        counted = proxy.metrics.value("requests_total", key="ann", path="chat/completions", status="429")
    assert (ann, bob) == ([200, 429], [200, 200])
    assert (other.status_code, none.status_code) == (401, 401)
    assert counted == 1
    assert all("authorization" not in one.headers and "x-api-key" not in one.headers for one in upstream.seen)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ann", "no TOML"),
        ("", "have none"),
        ("ann = 1", "no table"),
        ("[ann]\nkey = 'long-enough'\nlimit = 1", "nothing reads"),
        ("[ann]\nkey_env = 'WHERRY_NO_SUCH'", "the environment has no"),
        ("[ann]\nkey = 'short'", "8 or more"),
        ("[ann]\nsha256 = 'zz'", "64 hexadecimal"),
        ("[ann]\nkey = 'long-enough'\nlimits = { seconds = 3 }", "limits are"),
        ("[ann]\nkey = 'long-enough'\n[bob]\nkey = 'long-enough'", "of another client"),
    ],
)
async def test_files_of_keys_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        async with guarded(StrictUpstream(), keys=(file,)):
            pass


async def test_pages_in_a_browser_do_not_get_in() -> None:
    upstream = StrictUpstream()
    body = json.dumps(HELLO).encode()
    async with guarded(upstream) as proxy:
        rebound = await raw(proxy, request(proxy, body, host="evil.example"))
        page = await post(proxy, HELLO, origin="https://evil.example")
        local = await post(proxy, HELLO, origin="http://localhost:3000")
        form = await post(proxy, HELLO, **{"content-type": "text/plain"})
    assert rebound.startswith(b"HTTP/1.1 403")
    assert (page.status_code, local.status_code, form.status_code) == (403, 200, 415)
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"messages": []}', b'{"messages": [1]}', b"[" * 100_000])
async def test_what_is_no_request(body: bytes) -> None:
    upstream = StrictUpstream()
    async with guarded(upstream) as proxy:
        answer = await post(proxy, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert not upstream.seen


@pytest.mark.slow
async def test_bodies_are_capped() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, body_limit=1_000) as proxy:
        told = await raw(proxy, request(proxy, b"", length=5_000))
        chunks = b"1000\r\n" + b" " * 4096 + b"\r\n"
        head = request(proxy, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        untold = await raw(proxy, head, chunks)
    for answer in (told, untold):
        assert answer.startswith(b"HTTP/1.1 413")
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "request_too_large"
    assert not upstream.seen


@pytest.mark.slow
async def test_slow_headers_and_slow_bodies_are_cut() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, header_seconds=0.2, body_seconds=0.2) as proxy:
        assert await raw(proxy, b"POST /v1/chat/comp") == b""
        answer = await raw(proxy, request(proxy, b'{"model"', length=100))
    assert answer.startswith(b"HTTP/1.1 408")
    assert not upstream.seen


async def test_slow_readers_of_streams_are_cut() -> None:
    upstream = StrictUpstream()
    piece = chat_events({"id": "c", "created": 1, "model": "m"}, {"content": "x" * 200_000}, "stop", {}, {})[1]
    upstream.plans = [Plan(stream=[piece] * 200)]
    async with guarded(upstream, reader_seconds=0.3) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1_024)
        writer.write(request(proxy, json.dumps({**HELLO, "stream": True}).encode()))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(20):
            await upstream.gone.wait()  # nothing is read here, and the upstream is let go
        writer.close()
        assert proxy.metrics.value("cut_total", reason="too slow") == 1


async def test_too_many_at_once_are_told_to_come_again() -> None:
    upstream = StrictUpstream()
    upstream.plans = [Plan(200, {"choices": []}, hold=True)]
    async with guarded(upstream, most_requests=1) as proxy:
        first = asyncio.create_task(post(proxy, HELLO))
        await asyncio.wait_for(upstream.reached.wait(), 10)
        second = await post(proxy, HELLO)
        upstream.release.set()
        await first
    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"


async def test_streams_under_way_come_to_their_end_when_the_proxy_ends() -> None:
    upstream = StrictUpstream()
    events = chat_events({"id": "c", "created": 1, "model": "m"}, {"content": "one two"}, "stop", {}, {})
    upstream.plans = [Plan(stream=[events[0], b"".join(events[1:])], hold=True)]
    leave = asyncio.Event()
    listening: asyncio.Future[Proxy] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with guarded(upstream) as proxy:
            listening.set_result(proxy)
            await leave.wait()

    serving = asyncio.create_task(serve())
    proxy = await listening
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(request(proxy, json.dumps({**HELLO, "stream": True}).encode()))
    await reader.readuntil(b"assistant")
    leave.set()
    while not proxy._ending:  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)
    upstream.release.set()
    rest = await reader.read()
    writer.close()
    await serving
    assert b"[DONE]" in rest
    assert rest.endswith(b"0\r\n\r\n")


async def test_no_key_is_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    upstream = StrictUpstream()
    key = "sk-key-that-is-secret-4711"
    upstream.plans = [Plan(401, {"error": {"message": f"Incorrect API key provided: {key}"}}), Plan(500, "oops")]
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        refused = await post(proxy, HELLO, authorization=f"Bearer {key}")
        await post(proxy, HELLO, authorization=f"Bearer {key}")
        text = proxy.metrics.text()
    assert refused.status_code == 401
    assert key not in refused.text
    assert key not in caplog.text
    assert key not in text


async def test_metrics_are_prometheus_text() -> None:
    async with guarded(StrictUpstream()) as proxy:
        await post(proxy, HELLO)
        async with httpx.AsyncClient() as client:
            answer = await client.get(proxy.url.replace("/v1", "/metrics"))
    lines = answer.text.splitlines()
    values: dict[str, Any] = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['wherry_guard_requests_total{key="anonymous",path="chat/completions",status="200"}'] == "1"
    assert values["wherry_guard_request_seconds_count"] == "1"
    assert any(line.startswith("# TYPE wherry_guard_tokens_total counter") for line in lines)


async def test_a_key_of_no_known_shape_that_a_server_repeats(caplog: pytest.LogCaptureFixture) -> None:
    upstream, store = StrictUpstream(), open_store("memory://")
    upstream.plans = [Plan(401, {"error": {"message": "wrong key: plainpassword"}})]
    async with guarded(upstream, store=store) as proxy:
        answer = await post(proxy, HELLO, authorization="Bearer plainpassword")
        garbled = await raw(proxy, b"POST /v1/models HTTP/1.1\r\nAuthorization Bearer plainpassword\r\n\r\n")
    assert answer.status_code == 401
    assert b" 400 " in garbled[:20]
    written = b"".join(row.body for run in store.runs(children=True) for row in store.events(run.run_id))
    assert b"wrong key" in written
    assert b"plainpassword" not in written
    assert "plainpassword" not in answer.text + caplog.text


async def test_who_asks_first_whether_to_send_is_told_to() -> None:
    upstream = StrictUpstream()
    body = json.dumps(HELLO).encode()
    async with guarded(upstream) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(request(proxy, b"", "Expect: 100-continue", length=len(body)))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
