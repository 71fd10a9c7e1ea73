"""What is too large, read through tools that a client opted in to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.guard_proxy.strict_upstream import StrictUpstream, guarded
from tests.guard_proxy.test_proxy_requests import HELLO, post, sdk

from wherry import Limits, open_store

pytestmark = pytest.mark.anyio

OPT_IN = {"x-wherry-artifacts": "1"}
DOCUMENT = "\n".join(f"{n}: ship {n} carried {n * 7} barrels" for n in range(5_000))
BIG: dict[str, Any] = {**HELLO, "messages": [{"role": "user", "content": f"What did ship 4321 carry?\n{DOCUMENT}"}]}


def call(name: str, call_id: str = "c1", **arguments: object) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def ref_in(body: dict[str, Any]) -> str:
    found = re.search(r"a-[0-9a-f]{12,64}", json.dumps(body["messages"]))
    assert found is not None
    return found[0]


def searching(body: dict[str, Any]) -> dict[str, Any]:
    """A model that searches once, and then says what it found."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"found {last['content']}"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("search_artifact", ref=ref_in(body), query="ship 4321 ")],
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_the_model_reads_what_was_too_large(stream: bool) -> None:
    upstream = StrictUpstream()
    upstream.reply = searching
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        client = sdk(proxy)
        if stream:
            answer = await client.chat.completions.create(**BIG, stream=True, extra_headers=OPT_IN)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in answer])
        else:
            answer = await client.chat.completions.create(**BIG, extra_headers=OPT_IN)
            text = answer.choices[0].message.content
            assert answer.choices[0].message.tool_calls is None
    assert "30247 barrels" in text
    assert len(upstream.seen) == 2
    assert upstream.overflows == 0
    assert [tool["function"]["name"] for tool in upstream.seen[0].body["tools"]] == ["read_artifact", "search_artifact"]


async def test_without_the_header_there_are_no_tools() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        answer = await post(proxy, BIG)
    assert answer.status_code == 200
    assert "tools" not in upstream.seen[0].body


async def test_a_reply_with_calls_of_the_clients_own_keeps_those() -> None:
    upstream = StrictUpstream()
    upstream.reply = lambda body: {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("search_artifact", ref=ref_in(body), query="x"), call("mine", "c2")],
    }
    own: dict[str, Any] = {
        "type": "function",
        "function": {"name": "mine", "parameters": {"type": "object", "properties": {}}},
    }
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        answer = await post(proxy, {**BIG, "tools": [own]}, **OPT_IN)
    message = answer.json()["choices"][0]["message"]
    assert [one["id"] for one in message["tool_calls"]] == ["c2"]
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_model_that_never_stops_reading_is_stopped() -> None:
    upstream = StrictUpstream()
    upstream.reply = lambda body: {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("read_artifact", f"c{len(upstream.seen)}", ref=ref_in(body))],
    }
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        answer = await post(proxy, BIG, **OPT_IN)
    assert len(upstream.seen) == 9
    assert "was stopped" in answer.json()["choices"][0]["message"]["content"]
    assert upstream.overflows == 0


async def test_a_reference_that_somebody_wrote_down_opens_nothing() -> None:
    upstream, store = StrictUpstream(), open_store("memory://")
    other = store.artifacts.put(b"the secret of another client", media_type="text/plain", run_id="another")

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return {"role": "assistant", "content": last["content"]}
        return {"role": "assistant", "content": None, "tool_calls": [call("read_artifact", ref=other.ref)]}

    upstream.reply = reply
    messages = [{"role": "user", "content": f"Read {other.ref}, please."}]
    async with guarded(upstream, store=store) as proxy:
        answer = await post(proxy, {**HELLO, "messages": messages}, **OPT_IN)
    assert "there is no such artifact" in answer.json()["choices"][0]["message"]["content"]
    assert "secret" not in answer.text


async def test_what_cannot_be() -> None:
    upstream = StrictUpstream()
    taken: dict[str, Any] = {"type": "function", "function": {"name": "read_artifact", "parameters": {}}}
    async with guarded(upstream, store=open_store("memory://"), limits=Limits(tool_calls=0)) as proxy:
        twice = await post(proxy, {**HELLO, "tools": [taken]}, **OPT_IN)
        elsewhere = await post(proxy, {"model": "m", "input": "Hello?"}, "responses", **OPT_IN)
        upstream.reply = searching
        limited = await post(proxy, BIG, **OPT_IN)
    async with guarded(StrictUpstream()) as proxy:
        nowhere = await post(proxy, HELLO, **OPT_IN)
    codes = [answer.json()["error"]["code"] for answer in (twice, elsewhere, limited, nowhere)]
    assert codes == ["name_taken", "artifacts_not_here", "limit_reached", "artifacts_not_here"]
