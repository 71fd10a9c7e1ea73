"""What nobody sends who means well, and servers that break off: each ends in an answer that says so."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx2 as httpx
import pytest
from aiohttp import web
from tests.guard_proxy.strict_upstream import Plan, StrictUpstream, guarded
from tests.guard_proxy.test_proxy_requests import HELLO, post

from wherry import Limits, open_store
from wherry.guard.proxy.diary import Diary
from wherry.guard.proxy.streams import UsageFilter

pytestmark = pytest.mark.anyio

STREAM: dict[str, Any] = {**HELLO, "stream": True}
PIECE = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    "path", ["../../slots", "%2e%2e/files", "..%2f..%2fadmin", "a/../../x", "/evil.example/x", "."]
)
async def test_the_name_of_a_model_leads_to_no_other_page_of_the_upstream(path: str) -> None:
    upstream = StrictUpstream()
    asked: list[str] = []
    handle = upstream.handle

    async def noted(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path_qs)
        return await handle(request)

    upstream.handle = noted  # type: ignore[method-assign]
    async with guarded(upstream) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        # By hand: clients make the path short before they send it.
        writer.write(f"GET /v1/models/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        async with httpx.AsyncClient() as client:
            await client.get(f"{proxy.url}/models/Qwen/Qwen2.5 1%3Fa=b")
    assert b" 404 " in answer.splitlines()[0]
    assert asked == ["/v1/models/Qwen/Qwen2.5%201%3Fa=b"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
async def test_bodies_are_utf_8(encoding: str) -> None:
    upstream = StrictUpstream()
    async with guarded(upstream) as proxy:
        answer = await post(proxy, json.dumps(HELLO).encode(encoding))
    assert answer.status_code == 400
    assert upstream.seen == []


async def test_a_stream_that_ends_before_it_begins_is_asked_for_again() -> None:
    upstream = StrictUpstream()
    upstream.plans = [Plan(stream=[])]
    async with guarded(upstream) as proxy:
        answer = await post(proxy, STREAM)
    assert "[DONE]" in answer.text
    assert answer.headers["x-wherry-tried"] == "1"


async def test_a_stream_without_its_last_event_is_no_whole_one() -> None:
    upstream = StrictUpstream()
    upstream.plans = [Plan(stream=[PIECE])]
    async with guarded(upstream) as proxy:
        with pytest.raises(httpx.RemoteProtocolError):
            await post(proxy, STREAM)
        kinds = proxy.metrics.value("upstream_failures_total", kind="ConnectionLost", act="cut")
    assert kinds == 1


async def test_a_stream_that_ends_with_its_finish_reason_or_an_error_is_passed_as_it_is() -> None:
    upstream = StrictUpstream()
    finished = PIECE.replace(b"null", b'"stop"')
    failed = b'data: {"error": {"message": "out of memory"}}\n\n'
    upstream.plans = [Plan(stream=[PIECE, finished]), Plan(stream=[PIECE * 40, failed])]
    async with guarded(upstream) as proxy:
        answers = [await post(proxy, STREAM) for _ in range(2)]
    assert [answer.content for answer in answers] == [PIECE + finished, PIECE * 40 + failed]


def test_an_event_without_end_is_passed_on() -> None:
    sift = UsageFilter()
    passed = sum(len(sift.feed(b"data: " + b"x" * 1_000)) for _ in range(500))
    assert passed > 400_000


async def test_what_fails_before_it_is_sent_leaves_nothing_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = StrictUpstream()
    written = Diary.conversation
    failing = True

    def conversation(diary: Diary, *given: Any) -> object:
        if failing:
            raise RuntimeError("no journal")
        return written(diary, *given)

    monkeypatch.setattr(Diary, "conversation", conversation)
    async with guarded(upstream, store=open_store("memory://"), limits=Limits(requests=1)) as proxy:
        broken = await post(proxy, HELLO)
        failing = False
        sound = await post(proxy, HELLO)
        over = await post(proxy, HELLO)
    assert (broken.status_code, sound.status_code, over.status_code) == (500, 200, 429)


def responses_pairs(items: list[Any]) -> list[str]:
    """Calls without results and results without calls, as the server of OpenAI tells them apart."""
    calls = {item["call_id"]: item["type"] for item in items if str(item.get("type")).endswith("_call")}
    results = {item["call_id"]: item["type"] for item in items if str(item.get("type")).endswith("_output")}
    wrong = [f"{name} without result" for name in calls.keys() - results.keys()]
    wrong += [f"{name} without call" for name in results.keys() - calls.keys()]
    return wrong + [
        f"{name}: {kind}" for name, kind in calls.items() if results.get(name) not in (None, f"{kind}_output")
    ]


@pytest.mark.slow
async def test_responses_with_tools_that_are_no_functions() -> None:
    upstream = StrictUpstream()
    items: list[Any] = [{"role": "user", "content": "Mend the harbour."}]
    left: set[str] = set()
    kinds = ("custom_tool_call", "shell_call", "local_shell_call", "function_call")
    async with guarded(upstream) as proxy:
        for turn in range(40):
            kind = kinds[turn % 4]
            fields: dict[str, dict[str, Any]] = {
                "custom_tool_call": {"name": "apply_patch", "input": f"*** Patch {turn} " + "+ line\n" * 40},
                "shell_call": {"action": {"commands": [f"ls {turn}"]}, "status": "completed"},
                "local_shell_call": {"action": {"type": "exec", "command": ["ls", str(turn)], "env": {}}},
                "function_call": {"name": "look", "arguments": "{}"},
            }
            long = "a line of the result\n" * (600 if turn % 5 == 4 else 10)
            shell = [{"stdout": long, "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
            items += [
                {"type": "reasoning", "id": f"rs_{turn}", "summary": []},
                {"type": kind, "id": f"i_{turn}", "call_id": f"c{turn}", **fields[kind]},
                {"type": f"{kind}_output", "call_id": f"c{turn}", "output": shell if kind == "shell_call" else long},
            ]
            answer = await post(proxy, {"model": "gpt-4o-small", "input": items}, "responses")
            assert answer.status_code == 200
            sent = cast("list[Any]", upstream.seen[-1].body["input"])
            assert responses_pairs(sent) == []
            left |= {str(item.get("type")) for item in sent}
            last = next(item for item in reversed(sent) if item.get("call_id") == f"c{turn}")
            assert isinstance(last["output"], list) is (kind == "shell_call")
    assert upstream.overflows == 0
    assert left >= {*kinds, *(f"{kind}_output" for kind in kinds)}


async def test_responses_to_what_the_server_keeps_itself() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        answer = await post(proxy, {"model": "gpt-4o-small", "prompt": {"id": "pmpt_1"}}, "responses")
        nothing = await post(proxy, {"model": "gpt-4o-small"}, "responses")
    assert (answer.status_code, nothing.status_code) == (200, 400)
    assert "input" not in upstream.seen[0].body
