"""What goes through the proxy, and what becomes of it."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guard_proxy.strict_upstream import OPENED, Plan, StrictUpstream, chat_events, count, guarded

from wherry import Limits, open_store
from wherry.guard.proxy import Proxy, UpstreamSpec
from wherry.guard.proxy.streams import UsageFilter
from wherry.models.api_key import ApiKey

pytestmark = pytest.mark.anyio

HELLO: dict[str, Any] = {"model": "gpt-4o-small", "messages": [{"role": "user", "content": "Hello?"}]}


def sdk(proxy: Proxy) -> Any:  # Any: its overloads want literals and classes where dicts do as well
    client = openai.AsyncOpenAI(base_url=proxy.url, api_key="sk-test-0000", max_retries=0)
    OPENED.append(client)
    return client


async def post(proxy: Proxy, body: Any, path: str = "chat/completions", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(
            f"{proxy.url}/{path}", content=content, headers={"content-type": "application/json", **headers}
        )


async def test_a_request_that_fits_is_passed_byte_for_byte() -> None:
    upstream = StrictUpstream()
    raw = b' { "model":"m",  "messages":[{"role":"user","content":"H\\u00e9llo \xc3\xa9"}],"zz":[1.50],"max_tokens":9 }'
    async with guarded(upstream) as proxy:
        answer = await post(proxy, raw)
    assert answer.status_code == 200
    assert upstream.seen[0].raw == raw


async def test_what_nobody_bounded_is_bounded_and_all_else_is_as_it_was() -> None:
    upstream = StrictUpstream()
    raw = json.dumps({**HELLO, "seed": 7, "my_own": {"field": None}}).encode()
    async with guarded(upstream) as proxy:
        await post(proxy, raw)
        await post(proxy, {**HELLO, "max_tokens": None})
        await post(proxy, {**HELLO, "max_tokens": -1})
        await post(proxy, {**HELLO, "max_completion_tokens": 1_000_000})
    first, *others = upstream.seen
    assert first.raw.endswith(raw[1:])
    assert all(0 < one.body["max_tokens"] < 2_048 for one in (first, *others[:2]))
    assert 1_500 < others[2].body["max_completion_tokens"] < 2_048
    assert upstream.overflows == 0


@pytest.mark.slow
async def test_a_conversation_of_a_hundred_turns_with_tools_never_overflows() -> None:
    upstream = StrictUpstream()
    look: dict[str, Any] = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": look}]

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if body["messages"][-1]["role"] == "tool":
            return {"role": "assistant", "content": "It says a lot."}
        call = {"id": f"call_{len(upstream.seen)}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    upstream.reply = reply
    messages: list[Any] = [{"role": "system", "content": "You look."}]
    async with guarded(upstream) as proxy:
        client = sdk(proxy)
        for turn in range(100):
            messages.append({"role": "user", "content": f"Look at {turn}. " + "words and words " * 10})
            while messages[-1]["role"] != "assistant":
                answer = await client.chat.completions.create(model="gpt-4o-small", messages=messages, tools=tools)
                message = answer.choices[0].message
                if message.tool_calls:
                    messages.append(message.model_dump(exclude_none=True))
                    size = 8_000 if turn % 25 == 7 else 100
                    messages += [
                        {"role": "tool", "tool_call_id": call.id, "content": f"{turn} " * size}
                        for call in message.tool_calls
                    ]
                else:
                    messages.append({"role": "assistant", "content": message.content})
    assert len(upstream.seen) == 200
    assert (upstream.overflows, upstream.orphans) == (0, 0)
    assert "Look at 99." in json.dumps(upstream.seen[-1].body)


async def test_a_server_that_says_nothing_of_its_window_teaches_it() -> None:
    upstream = StrictUpstream(1_500, tells=False)
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"{n} words " * 60} for n in range(41)]
    async with guarded(upstream) as proxy:
        first = await post(proxy, {**HELLO, "messages": messages, "max_tokens": 100})
        before = upstream.overflows
        second = await post(proxy, {**HELLO, "messages": messages, "max_tokens": 100})
    assert (first.status_code, second.status_code) == (200, 200)
    assert before == 1
    assert upstream.overflows == before  # it was told once
    assert "folded" in second.headers["x-wherry-changed"]


async def test_what_can_never_fit_is_refused_in_the_shape_of_openai() -> None:
    upstream = StrictUpstream()
    tool: Any = {"type": "function", "function": {"name": "big", "description": "very long " * 3_000, "parameters": {}}}
    async with guarded(upstream) as proxy:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk(proxy).chat.completions.create(**{**HELLO, "tools": [tool]})
    assert caught.value.code == "context_length_exceeded"
    assert not upstream.seen


async def test_streams_come_piece_by_piece_without_what_nobody_asked_for() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        stream = await sdk(proxy).chat.completions.create(**HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]  # every event has choices
        spent = proxy.metrics.value("tokens_total", key="key-" + _name("sk-test-0000"), direction="output")
        wanted = await sdk(proxy).chat.completions.create(**HELLO, stream=True, stream_options={"include_usage": True})
        last = [chunk async for chunk in wanted][-1]
    assert "".join(pieces) == "Yes,Isee."
    assert spent == 4  # as the server said
    assert last.usage is not None
    assert upstream.seen[0].body["stream_options"] == {"include_usage": True}


async def test_streams_of_a_server_that_does_not_tell_usage() -> None:
    upstream = StrictUpstream()
    upstream.refuses_stream_options = True
    async with guarded(upstream) as proxy:
        for _ in range(2):
            stream = await sdk(proxy).chat.completions.create(**HELLO, stream=True)
            assert [chunk async for chunk in stream]
    assert ["stream_options" in one.body for one in upstream.seen] == [True, False, False]


async def test_a_stream_is_passed_on_before_it_is_over() -> None:
    upstream = StrictUpstream()
    head = {"id": "c", "created": 1, "model": "m"}
    events = chat_events(head, {"content": "one two"}, "stop", {}, {})
    upstream.plans = [Plan(stream=[b"".join(events[:2]), b"".join(events[2:])], hold=True)]
    async with guarded(upstream) as proxy:
        stream = await sdk(proxy).chat.completions.create(**HELLO, stream=True)
        chunks = aiter(stream)
        assert (await anext(chunks)).choices[0].delta.role == "assistant"
        assert (await anext(chunks)).choices[0].delta.content == "one"
        upstream.release.set()
        assert (await anext(chunks)).choices[0].delta.content == "two"


async def test_a_stream_that_breaks_off_is_no_whole_one() -> None:
    upstream = StrictUpstream()
    events = chat_events({"id": "c", "created": 1, "model": "m"}, {"content": "one two"}, "stop", {}, {})
    upstream.plans = [Plan(stream=events[:2], break_off=True)]
    async with guarded(upstream) as proxy:
        stream = await sdk(proxy).chat.completions.create(**HELLO, stream=True)
        with pytest.raises((openai.APIError, httpx.HTTPError)):
            [chunk async for chunk in stream]


async def test_who_goes_away_takes_the_question_along() -> None:
    upstream = StrictUpstream()
    upstream.plans = [Plan(hold=True)]
    async with guarded(upstream) as proxy:
        asking = asyncio.create_task(sdk(proxy).chat.completions.create(**HELLO))
        await asyncio.wait_for(upstream.reached.wait(), 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(upstream.gone.wait(), 10)
        place = proxy.upstreams[0].learned()[0]
        assert (place.backend.gate.requests, place.backend.gate.in_flight) == (0, 0)


async def test_the_next_upstream_answers_for_one_that_fails() -> None:
    first, second = StrictUpstream(), StrictUpstream(names=("other",))
    first.plans = [Plan(503, {"error": {"message": "busy"}}, {"retry-after": "1"})]
    async with guarded(first, second) as proxy:
        answer = await post(proxy, HELLO, authorization="Bearer sk-client-9999")
        again = await post(proxy, HELLO)
    assert (answer.status_code, again.status_code) == (200, 200)
    assert (len(first.seen), len(second.seen)) == (1, 2)  # the one that failed rests
    assert first.seen[0].headers["authorization"] == "Bearer sk-client-9999"
    assert "authorization" not in second.seen[0].headers  # the key was not meant for another host


async def test_what_is_wrong_is_wrong_everywhere_and_is_passed_as_it_is() -> None:
    first, second = StrictUpstream(), StrictUpstream()
    first.plans = [Plan(400, '{"error": {"message": "bad temperature",  "code": 7}}')]
    async with guarded(first, second) as proxy:
        answer = await post(proxy, HELLO)
    assert answer.status_code == 400
    assert answer.text == '{"error": {"message": "bad temperature",  "code": 7}}'
    assert not second.seen


async def test_nobody_there() -> None:
    async with guarded(specs=[UpstreamSpec("http://127.0.0.1:1/v1")]) as proxy:
        answer = await post(proxy, HELLO)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"


async def test_a_server_with_too_little_memory_gets_less() -> None:
    upstream = StrictUpstream()
    upstream.plans = [Plan(500, {"error": {"message": "CUDA out of memory. Tried to allocate 2.00 GiB"}})]
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"{n} words " * 30} for n in range(21)]
    async with guarded(upstream) as proxy:
        answer = await post(proxy, {**HELLO, "messages": messages, "max_tokens": 100})
        window = proxy.upstreams[0].learned()[0].backend.window(2_048)
    assert answer.status_code == 200
    assert upstream.seen[1].tokens < upstream.seen[0].tokens
    assert window < 2_048


async def test_requests_wait_for_room() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream) as proxy:
        await post(proxy, HELLO)
        proxy.upstreams[0].learned()[0].backend.gate.resize(2_048)
        answers = await asyncio.gather(*(post(proxy, HELLO) for _ in range(8)))
    assert all(answer.status_code == 200 for answer in answers)
    assert upstream.most_under_way == 1


async def test_an_upstream_with_a_model_and_a_key_of_its_own() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream) as proxy:
        spec = UpstreamSpec.parse(f"{upstream.url}#its-model", ApiKey("sk-upstream-1234", "TEST"))
        async with guarded(specs=[spec]) as inner:
            await post(inner, HELLO, authorization="Bearer sk-client-9999")
        del proxy
    assert upstream.seen[0].body["model"] == "its-model"
    assert upstream.seen[0].headers["authorization"] == "Bearer sk-upstream-1234"


# ---- other interfaces


async def test_responses() -> None:
    upstream = StrictUpstream()
    items: list[Any] = [{"role": "user", "content": "What is it about?"}]
    for n in range(60):
        items.append({"type": "reasoning", "id": f"rs_{n}", "summary": []})
        items.append({"type": "function_call", "call_id": f"c{n}", "name": "look", "arguments": "{}"})
        items.append({"type": "function_call_output", "call_id": f"c{n}", "output": f"{n} is a number. " * 20})
    items.append({"role": "user", "content": "And the last?"})
    async with guarded(upstream) as proxy:
        answer = await sdk(proxy).responses.create(model="gpt-4o-small", instructions="Be kind.", input=items)
        stream = await sdk(proxy).responses.create(model="gpt-4o-small", input="Hello?", stream=True)
        kinds = [event.type async for event in stream]
    assert answer.output_text == "Yes, I see."
    assert kinds == ["response.completed"]
    sent = upstream.seen[0].body
    calls = [item["call_id"] for item in sent["input"] if item.get("type") == "function_call"]
    results = [item["call_id"] for item in sent["input"] if item.get("type") == "function_call_output"]
    assert calls == results
    assert calls[-1:] == ["c59"]
    assert sent["instructions"] == "Be kind."
    assert sent["input"][-1] == items[-1]
    assert {"type": "reasoning", "id": "rs_59", "summary": []} in sent["input"]
    assert "previous_response_id" not in sent
    assert upstream.overflows == 0


async def test_anthropic_messages() -> None:
    upstream = StrictUpstream()
    messages: list[Any] = [{"role": "user", "content": "What is it about?"}]
    for n in range(60):
        call: dict[str, Any] = {"type": "tool_use", "id": f"t{n}", "name": "look", "input": {}}
        result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": f"{n} is a number. " * 20}
        messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    async with guarded(upstream, store=open_store("memory://")) as proxy:
        client: Any = anthropic.AsyncAnthropic(api_key="sk-test", base_url=proxy.url.removesuffix("/v1"), max_retries=0)
        OPENED.append(client)
        answer = await client.messages.create(model="claude", max_tokens=200, system="Be kind.", messages=messages)
        async with client.messages.stream(
            model="claude", max_tokens=100, messages=[{"role": "user", "content": "Hello?"}]
        ) as stream:
            text = await stream.get_final_text()
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(model="claude", max_tokens=100, messages=[])
    assert answer.content[0].text == "Yes, I see."
    assert text == "Yes, I see."
    sent = upstream.seen[0]
    assert sent.headers["authorization"] == "Bearer sk-test"
    assert sent.body["system"] == "Be kind."
    calls: list[str] = [
        b["id"] for m in sent.body["messages"] for b in m["content"] if isinstance(b, dict) and "name" in b
    ]
    results = [b["tool_use_id"] for m in sent.body["messages"] for b in m["content"] if "tool_use_id" in b]
    assert calls == results
    assert calls[-1] == "t59"
    assert upstream.overflows == 0


async def test_tokens_are_counted_for_anthropic_clients() -> None:
    """By the server where it does that, else here; whatever the size, at no cost, and without a word in the store."""
    upstream, store = StrictUpstream(), open_store("memory://")
    tool: dict[str, Any] = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
    call: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "the harbour"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "A ship is in the harbour. " * 900}
    messages: list[Any] = [
        {"role": "user", "content": "What is there?"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    request: dict[str, Any] = {"model": "claude", "system": "Be kind.", "messages": messages, "tools": [tool]}
    async with guarded(upstream, store=store, limits=Limits(requests=1)) as proxy:
        client: Any = anthropic.AsyncAnthropic(api_key="sk-test", base_url=proxy.url.removesuffix("/v1"), max_retries=0)
        OPENED.append(client)
        here = (await client.messages.count_tokens(**request)).input_tokens
        upstream.counts = True
        theirs = (await client.messages.count_tokens(**request)).input_tokens
        assert upstream.seen[-1].body == request
        assert upstream.seen[-1].headers["authorization"] == "Bearer sk-test"
        upstream.plans = [Plan(401, {"error": {"message": "no such key"}})]
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.count_tokens(**request)
        upstream.plans = [Plan(503, {}), Plan(200, "hello"), Plan(stream=[b'{"input'], break_off=True)]
        for _ in range(3):
            assert (await client.messages.count_tokens(**request)).input_tokens == here
        assert not upstream.plans
        with pytest.raises(anthropic.BadRequestError):
            await client.post("/v1/messages/count_tokens", body={}, cast_to=object)
    assert theirs == upstream.seen[0].tokens > upstream.window
    assert theirs <= here <= 1.3 * theirs
    assert store.runs(children=True) == []


async def test_models_and_health() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream) as proxy:
        models = await sdk(proxy).models.list()
        async with httpx.AsyncClient() as client:
            health = await client.get(proxy.url.replace("/v1", "/health"))
            other = await client.get(proxy.url + "/embeddings")
    assert [model.id for model in models.data] == ["gpt-4o-small"]
    assert health.json() == {"status": "ok", "in_flight": 0}
    assert other.status_code == 404


async def test_pictures_are_counted_and_passed() -> None:
    upstream = StrictUpstream(8_000)
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    async with guarded(upstream) as proxy:
        answer = await post(proxy, {**HELLO, "messages": [{"role": "user", "content": content}], "max_tokens": 50})
    assert upstream.seen[0].body["messages"][0]["content"] == content
    assert int(answer.headers["x-wherry-tokens"].split("+")[0]) > 1_000


# ---- budgets and journals


async def test_a_key_has_a_limit_of_its_own_for_a_day_also_after_a_restart() -> None:
    upstream = StrictUpstream()
    store = open_store("memory://")
    async with guarded(upstream, store=store, limits=Limits(requests=3)) as proxy:
        statuses = [(await post(proxy, HELLO, authorization="Bearer sk-one-1111")).status_code for _ in range(5)]
        other = await post(proxy, HELLO, authorization="Bearer sk-two-2222")
    async with guarded(StrictUpstream(), store=store, limits=Limits(requests=3)) as proxy:
        later = await post(proxy, HELLO, authorization="Bearer sk-one-1111")
    assert statuses == [200, 200, 200, 429, 429]
    assert other.status_code == 200
    assert later.status_code == 429
    assert later.json()["error"]["code"] == "limit_reached"
    assert later.headers["x-should-retry"] == "false"


@pytest.mark.slow
async def test_a_limit_is_exact_whatever_comes_at_once() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, limits=Limits(requests=9)) as proxy:
        answers = await asyncio.gather(*(post(proxy, HELLO) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [429] * 11
    assert len(upstream.seen) == 9


async def test_the_last_reply_gets_the_output_that_is_left() -> None:
    upstream = StrictUpstream()
    async with guarded(upstream, limits=Limits(output_tokens=100)) as proxy:
        await post(proxy, {**HELLO, "max_tokens": 500})
    assert upstream.seen[0].body["max_tokens"] == 100


async def test_conversations_are_in_the_store_and_keys_are_not() -> None:
    from wherry.journal import EventType, messages_of_request, read_events, verify

    upstream, store = StrictUpstream(), open_store("memory://")
    key = "sk-secret-key-of-mine-123456"
    async with guarded(upstream, store=store) as proxy:
        talk = [{"role": "user", "content": f"My key is {key}."}]
        first = await post(proxy, {**HELLO, "messages": talk}, authorization=f"Bearer {key}")
        talk += [first.json()["choices"][0]["message"], {"role": "user", "content": "Go on."}]
        second = await post(proxy, {**HELLO, "messages": talk}, authorization=f"Bearer {key}")
        await post(proxy, HELLO, authorization=f"Bearer {key}")
    run = first.headers["x-wherry-run"]
    assert second.headers["x-wherry-run"] == run
    (day,) = store.runs()
    assert day.agent == f"key-{_name(key)}"
    assert day.status == "completed"
    assert day.usage is not None
    assert day.usage["requests"] == 3
    talks = store.runs(parent=day.run_id)
    assert len(talks) == 2
    assert [message.role for message in messages_of_request(store, run, 2)] == ["user", "assistant", "user"]
    requested = [event for event in read_events(store, run) if event.type is EventType.MODEL_REQUESTED]
    assert [event.payload["keep"] for event in requested] == [0, 1]
    assert verify(store, run) is None
    written = b"".join(row.body for one in (day, *talks) for row in store.events(one.run_id))
    written += b"".join(store.message(digest) for event in requested for digest in event.payload["add"])
    assert key.encode() not in written


async def test_nothing_is_recorded_if_so_told() -> None:
    store = open_store("memory://")
    async with guarded(StrictUpstream(), store=store, record=False) as proxy:
        answer = await post(proxy, HELLO)
    assert answer.status_code == 200
    assert store.runs(children=True) == []


# ---- the one event that is taken out


@given(
    st.lists(st.sampled_from(["text", "usage", "both", "spaces"]), max_size=12),
    st.lists(st.integers(1, 60), min_size=1),
)
@settings(max_examples=80, deadline=None)
def test_only_events_of_mere_usage_are_taken_out(kinds: list[str], cuts: list[int]) -> None:
    made = {
        "text": b'data: {"choices":[{"delta":{"content":"\\"choices\\":[] \\"usage\\""}}]}\n\n',
        "usage": b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
        "both": b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\r\n\r\n',
        "spaces": b'data: {"choices": [ ], "usage": {"prompt_tokens": 1}}\n\n',
    }
    whole = b"".join(made[kind] for kind in kinds) + b"data: [DONE]\n\n"
    sift, out = UsageFilter(), b""
    for cut in itertools.cycle(cuts):
        if not whole:
            break
        out += sift.feed(whole[:cut])
        whole = whole[cut:]
    out += sift.finish()
    assert out == b"".join(made[kind] for kind in kinds if kind in ("text", "both")) + b"data: [DONE]\n\n"


@pytest.mark.slow
@given(st.lists(st.text(max_size=2_000), min_size=1, max_size=25), st.integers(1, 3_000))
@settings(max_examples=30, deadline=None)
async def test_no_request_passes_the_window(texts: list[str], wanted: int) -> None:
    upstream = StrictUpstream(1_024)
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text or "-"} for n, text in enumerate(texts)]
    async with guarded(upstream) as proxy:
        answer = await post(proxy, {**HELLO, "messages": messages, "max_tokens": wanted})
    assert answer.status_code == 200
    assert upstream.overflows == 0


def _name(key: str) -> str:
    from hashlib import sha256

    return sha256(sha256(key.encode()).digest()).hexdigest()[:10]


def test_the_count_of_the_strict_upstream_is_a_count() -> None:
    assert count("hello world") == 2
