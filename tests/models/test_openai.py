"""OpenAIModel over real HTTP against a server that plays answers."""
# ruff: noqa: E501  # servers write long sentences

from __future__ import annotations

import asyncio
import gc
import pickle
import traceback
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from playback_server import Answer, PlaybackServer, completion, delta, events

from wherry.errors import ConfigurationError, ModelError
from wherry.messages import Image, Message, ToolCall, ToolSchema
from wherry.models import Model, ModelDelta, ModelReply, ModelRequest, OpenAIModel, Prepared, argument_error

T = TypeVar("T")
QUESTION = ModelRequest([Message("user", "hello")])
KEY = "sk-test-0123456789-wxyz"


def run(fn: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await fn()

    return anyio.run(main)


def ask(model: OpenAIModel, request: ModelRequest = QUESTION) -> ModelReply:
    return run(lambda: model.complete(request))


def stream(model: OpenAIModel, request: ModelRequest = QUESTION) -> list[ModelDelta]:
    async def collect() -> list[ModelDelta]:
        return [piece async for piece in model.stream(request)]

    return run(collect)


def reply_of(pieces: list[ModelDelta]) -> ModelReply:
    assert pieces[-1].reply is not None
    assert all(piece.reply is None for piece in pieces[:-1])
    assert "".join(piece.text for piece in pieces) == pieces[-1].reply.text
    return pieces[-1].reply


def fails(model: OpenAIModel, request: ModelRequest = QUESTION, *, streaming: bool = False) -> ModelError:
    with pytest.raises(ModelError) as caught:
        _ = stream(model, request) if streaming else ask(model, request)
    return caught.value


# ---- replies


def test_it_is_a_model() -> None:
    model = OpenAIModel("m", base_url="http://127.0.0.1:1/v1")
    assert isinstance(model, Model)
    assert isinstance(model, Prepared)


def test_a_reply_and_its_usage(server: PlaybackServer) -> None:
    usage = {"prompt_tokens": 31, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 30}}
    server.play(completion("hello there", usage=usage, finish="length"))
    reply = ask(OpenAIModel("m", base_url=server.url))
    assert (reply.text, reply.finish_reason, reply.model) == ("hello there", "length", "m-2026")
    assert reply.usage is not None
    assert (reply.usage.requests, reply.usage.input_tokens, reply.usage.cached_tokens) == (1, 31, 30)
    assert reply.usage.output_tokens == 2
    assert reply.usage.seconds > 0
    assert reply.usage.usd is None, "nobody knows what this server costs"


def test_the_price_where_it_is_known(server: PlaybackServer) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}
    server.play(completion(usage=usage), completion(usage=usage))
    reply = ask(OpenAIModel("m", base_url=server.url, price_key="openai/gpt-4o-mini"))
    assert reply.usage is not None
    assert reply.usage.usd is not None
    assert Decimal(0) < reply.usage.usd < Decimal("0.01")
    free = ask(OpenAIModel("m", base_url=server.url, price_key="free"))
    assert free.usage is not None
    assert free.usage.usd == Decimal(0)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, "much", []])
def test_usage_that_is_not_said_is_none(server: PlaybackServer, usage: Any) -> None:
    server.play(completion(usage=usage))
    assert ask(OpenAIModel("m", base_url=server.url)).usage is None


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": None, "refusal": "I will not"}, "I will not"),
        ({"content": "x\u2028y"}, "x\u2028y"),
    ],
)
def test_content_in_all_its_forms(server: PlaybackServer, message: dict[str, Any], text: str) -> None:
    server.play({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert ask(OpenAIModel("m", base_url=server.url)).text == text


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}, [], "", "oops", "null", '{"choices": ['])
def test_an_answer_that_is_none(server: PlaybackServer, body: Any) -> None:
    server.play(Answer(body))
    assert fails(OpenAIModel("m", base_url=server.url)).kind == "ServerError"


def test_tool_calls_come_with_ids_and_arguments(server: PlaybackServer) -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": "x"}'}},
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}},
        {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}},
    ]
    server.play(completion(None, tool_calls=calls, finish="tool_calls"))
    reply = ask(OpenAIModel("m", base_url=server.url))
    assert [call.arguments for call in reply.tool_calls] == [{"a": 1, "b": "x"}, {}, {"a": 2}]
    ids = [call.id for call in reply.tool_calls]
    assert ids[0] == "c1"
    assert len(set(ids)) == 3
    assert all(ids)


@pytest.mark.parametrize("raw", ['{"a": 1', "[1, 2]", "three", '{"a": NaN}', "[" * 100_000])
def test_broken_arguments_can_be_shown_and_sent_back(server: PlaybackServer, raw: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": raw}}
    server.play(completion(None, tool_calls=[call]), completion("sorry"))
    model = OpenAIModel("m", base_url=server.url)
    reply = ask(model)
    assert reply.tool_calls[0].arguments["__raw__"] == raw
    assert argument_error(reply.tool_calls[0])
    question = [Message("user", "add"), reply.message(), Message("tool", "no JSON", tool_call_id="c1")]
    assert ask(model, ModelRequest(question)).text == "sorry"
    assert argument_error(ToolCall("c", "add", {"a": 1})) is None


def test_the_old_form_of_a_call(server: PlaybackServer) -> None:
    server.play(completion(None, function_call={"name": "add", "arguments": "{}"}))
    (call,) = ask(OpenAIModel("m", base_url=server.url)).tool_calls
    assert call.name == "add"


# ---- requests


def test_what_is_sent(server: PlaybackServer) -> None:
    server.play(completion())
    model = OpenAIModel("m", base_url=server.url, temperature=0.2, settings={"seed": 1, "top_p": 0.5})
    request = ModelRequest(
        [
            Message("system", "be brief"),
            Message("user", "see", name="Ann Lee", images=[Image(data=b"\x89PNG"), Image(url="https://x/y.png")]),
            Message("assistant", "", tool_calls=[ToolCall("c1", "add", {"b": 2, "a": 1})]),
            Message("tool", "3", tool_call_id="c1", name="add"),
        ],
        tools=[ToolSchema("add", "Adds.", {"type": "object", "properties": {}})],
        max_output=77,
        settings={"seed": 2},
        response_format={
            "type": "object",
            "properties": {"x": {"type": "integer"}},
            "required": ["x"],
            "additionalProperties": False,
        },
    )
    ask(model, request)
    (body,) = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
            "name": "Ann_Lee",
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]
    assert body["tools"][0]["function"]["name"] == "add"
    assert (body["max_tokens"], body["seed"], body["top_p"], body["temperature"]) == (77, 2, 0.5, 0.2)
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["strict"] is True
    assert "stream" not in body


def test_a_schema_that_is_not_closed_is_not_strict(server: PlaybackServer) -> None:
    server.play(completion())
    schema = {
        "type": "object",
        "properties": {"x": {"type": "object"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    ask(OpenAIModel("m", base_url=server.url), ModelRequest(QUESTION.messages, response_format=schema))
    assert "strict" not in server.bodies[0]["response_format"]["json_schema"]


def test_output_is_always_bounded(server: PlaybackServer) -> None:
    server.play(completion(), completion())
    ask(OpenAIModel("m", base_url=server.url))
    ask(OpenAIModel("m", base_url=server.url, max_output=300))
    assert [body["max_tokens"] for body in server.bodies] == [1024, 300]


def test_the_name_of_the_bound_is_learned(server: PlaybackServer) -> None:
    complaint = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    server.play(
        Answer({"error": {"message": complaint, "code": "unsupported_parameter"}}, 400), completion(), completion()
    )
    model = OpenAIModel("m", base_url=server.url)
    assert ask(model).text == ask(model).text == "hi"
    assert [sorted(set(body) - {"messages", "model"}) for body in server.bodies] == [
        ["max_tokens"],
        ["max_completion_tokens"],
        ["max_completion_tokens"],
    ]


def test_usage_in_streams_is_given_up_where_it_is_refused(server: PlaybackServer) -> None:
    refusal = Answer(
        {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted: stream_options"}]}, 422
    )
    server.play(refusal, events(delta("a")), events(delta("b")))
    model = OpenAIModel("m", base_url=server.url)
    assert reply_of(stream(model)).text == "a"
    assert reply_of(stream(model)).text == "b"
    assert ["stream_options" in body for body in server.bodies] == [True, False, False]


def test_lone_surrogates_do_not_stop_a_request(server: PlaybackServer) -> None:
    server.play(completion())
    call = ToolCall("c", "f\u00e9", {"x": "\ud800"})
    messages = [
        Message("user", "a\udce9b"),
        Message("assistant", "", tool_calls=[call]),
        Message("tool", "\udfff", tool_call_id="c"),
    ]
    ask(OpenAIModel("m", base_url=server.url), ModelRequest(messages))
    assert server.bodies[0]["messages"][0]["content"] == "a\ufffdb"


CALL = ToolCall("c1", "f", {})


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "at least one message"),
        ([Message("user", "x"), Message("tool", "y")], "no tool_call_id"),
        ([Message("user", "x"), Message("tool", "y", tool_call_id="c9")], "c9"),
        ([Message("assistant", "", tool_calls=[CALL]), Message("user", "x")], "without a result"),
        ([Message("assistant", "", tool_calls=[CALL])], "without a result"),
        ([Message("assistant", "", tool_calls=[CALL, CALL])], "no id of its own"),
        ([Message("assistant", "", tool_calls=[CALL]), *[Message("tool", "1", tool_call_id="c1")] * 2], "already"),
        ([Message("user", "", tool_calls=[CALL])], "only an assistant"),
        ([Message("system", "", images=[Image(url="u")])], "only a user"),
    ],
)
def test_what_no_server_should_see_is_not_sent(server: PlaybackServer, messages: list[Message], says: str) -> None:
    model = OpenAIModel("m", base_url=server.url)
    for call in (ask, stream):
        with pytest.raises(ConfigurationError, match=says):
            call(model, ModelRequest(messages))
    assert not server.seen


def test_settings_that_are_wherrys(server: PlaybackServer) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens"):
        OpenAIModel("m", base_url=server.url, settings={"max_tokens": 5})
    with pytest.raises(ConfigurationError, match="messages"):
        ask(OpenAIModel("m", base_url=server.url), ModelRequest(QUESTION.messages, settings={"messages": []}))
    with pytest.raises(ConfigurationError, match="max_output"):
        ask(OpenAIModel("m", base_url=server.url), ModelRequest(QUESTION.messages, max_output=0))


# ---- streams


def test_a_stream(server: PlaybackServer) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    server.play(
        events(
            delta(role="assistant"),
            delta("one "),
            ": a comment\n\n",
            "data: null\n\n",
            delta("two\u2028\u0085three"),
            delta(finish="stop"),
            {"choices": [], "usage": usage},
        )
    )
    reply = reply_of(stream(OpenAIModel("m", base_url=server.url)))
    assert (reply.text, reply.finish_reason, reply.model) == ("one two\u2028\u0085three", "stop", "m-2026")
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 3)
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


def test_a_server_that_does_not_stream(server: PlaybackServer) -> None:
    server.play(completion("all at once"))
    assert reply_of(stream(OpenAIModel("m", base_url=server.url))).text == "all at once"


def test_events_may_be_cut_anywhere(server: PlaybackServer) -> None:
    whole = "".join(events(delta("grüße "), delta("日本"), delta(finish="stop"))).replace("\n\n", "\r\n\r\n")
    server.play(list(whole))
    assert reply_of(stream(OpenAIModel("m", base_url=server.url))).text == "grüße 日本"


def test_tool_calls_in_a_stream(server: PlaybackServer) -> None:
    def call(index: int | None, arguments: str, id: str | None = None, name: str | None = None) -> dict[str, Any]:
        function: dict[str, Any] = {"arguments": arguments} | ({"name": name} if name else {})
        return ({} if index is None else {"index": index}) | ({"id": id} if id else {}) | {"function": function}

    server.play(
        events(
            delta(tool_calls=[call(0, '{"a"', "c1", "f")]),
            delta(tool_calls=[call(0, ": 1}")]),
            delta(tool_calls=[call(1, '{"b": 2}', "c2", "g")], finish="tool_calls"),
        ),
        # Servers that number every call 0, or none.
        events(delta(tool_calls=[call(0, '{"a": 1}', "c1", "f")]), delta(tool_calls=[call(0, '{"b": 2}', "c2", "g")])),
        events(
            delta(tool_calls=[call(None, '{"a": 1}', "c1", "f")]), delta(tool_calls=[call(None, '{"b": 2}', "c2", "g")])
        ),
    )
    model = OpenAIModel("m", base_url=server.url)
    for _ in range(3):
        reply = reply_of(stream(model))
        assert [(c.id, c.name, c.arguments) for c in reply.tool_calls] == [("c1", "f", {"a": 1}), ("c2", "g", {"b": 2})]


OVERFLOW = {"error": {"code": 400, "message": "request (4390 tokens) exceeds the available context size (4096 tokens)", "type": "exceed_context_size_error", "n_prompt_tokens": 4390, "n_ctx": 4096}}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(events(delta("half "), done=False)), "ConnectionLost"),
        (Answer(events(delta("half "), delta(finish="stop"), done=False)), "ConnectionLost"),
        (Answer(events(delta("half "), done=False), ending="reset"), "ConnectionLost"),
        (Answer([]), "ConnectionLost"),
        (Answer(events(delta("half "), 'data: {"choices": [{"del', done=False)), "ConnectionLost"),
        (Answer(events(delta("half "), OVERFLOW)), "ContextOverflow"),
        (Answer(events(delta("x"), {"error": {"message": "OOM error during inference", "code": 500}})), "OutOfMemory"),
        (
            Answer(events({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})),
            "Overloaded",
        ),
        (Answer(events('event: error\ndata: {"error": "boom"}\n\n')), "ServerError"),
        (Answer(OVERFLOW, 400), "ContextOverflow"),
    ],
)
def test_a_stream_that_breaks_is_no_reply(server: PlaybackServer, answer: Answer, kind: str) -> None:
    server.play(answer)
    assert fails(OpenAIModel("m", base_url=server.url), streaming=True).kind == kind


def test_a_stream_that_stalls(server: PlaybackServer) -> None:
    server.play(Answer(events(delta("half "), done=False), ending="stall"))
    model = OpenAIModel("m", base_url=server.url, stall_timeout=0.2)
    assert fails(model, streaming=True).kind == "Timeout"
    assert server.gone.wait(5), "the connection was left open"


def test_a_stream_that_is_left_early_is_closed(server: PlaybackServer) -> None:
    server.play(Answer(events(delta("a"), delta("b"), done=False), ending="stall"))
    model = OpenAIModel("m", base_url=server.url)

    async def leave() -> bool:
        pieces = model.stream(QUESTION)
        async for _ in pieces:
            break
        await pieces.aclose()  # type: ignore[attr-defined]
        return await anyio.to_thread.run_sync(lambda: server.gone.wait(5))

    assert run(leave)


# ---- failures


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Answer({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401), "Authentication", "…wxyz"),
        (Answer({"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, 404), "BadRequest", "'m'"),
        (Answer({"error": "model 'm' not found, try pulling it first"}, 404), "BadRequest", "try pulling"),
        (Answer(OVERFLOW, 400), "ContextOverflow", "4390"),
        (Answer({"error": "slow down"}, 429, {"retry-after": "7"}), "RateLimited", "7 s"),
        (Answer({"error": {"code": "insufficient_quota", "message": "pay"}}, 429), "QuotaExhausted", "…wxyz"),
        (Answer("<html><h1>502 Bad Gateway</h1></html>", 502, media_type="text/html"), "ServerError", "502 Bad Gateway"),
        (Answer({"error": "x"}, 503), "Overloaded", "loading"),
        (Answer({"error": "x"}, 504), "Timeout", "in time"),
        (Answer("", ending="reset", declared=100), "ConnectionLost", "went away"),
        (Answer({"error": OVERFLOW["error"]}, 200), "ContextOverflow", "4096"),
    ],
)  # fmt: skip
def test_failures_are_told_apart(server: PlaybackServer, answer: Answer, kind: str, says: str, streaming: bool) -> None:
    server.play(answer)
    error = fails(OpenAIModel("m", base_url=server.url, api_key=KEY), streaming=streaming)
    assert error.kind == kind
    if not (streaming and answer.status == 200):
        assert says in str(error), str(error)
    assert error.diagnosis is not None
    assert error.diagnosis["where"] == server.url
    assert len(server.bodies) == 1, "it was retried"
    assert pickle.loads(pickle.dumps(error)).kind == kind


def test_numbers_are_in_the_diagnosis(server: PlaybackServer) -> None:
    server.play(Answer(OVERFLOW, 400))
    diagnosis = fails(OpenAIModel("m", base_url=server.url)).diagnosis
    assert diagnosis is not None
    assert (diagnosis["limit"], diagnosis["requested"], diagnosis["status"]) == (4096, 4390, 400)
    assert diagnosis["detail"] == OVERFLOW["error"]["message"]


def test_no_server() -> None:
    with PlaybackServer() as server:
        url = server.url
    for streaming in (False, True):
        error = fails(OpenAIModel("m", base_url=url), streaming=streaming)
        assert error.kind == "ConnectionLost"
        assert f"no server answers at {url}" in str(error)
        assert "is it running" in str(error)


def test_an_answer_that_never_comes(server: PlaybackServer) -> None:
    server.play(Answer("", ending="stall", declared=10), Answer(events(done=False), ending="stall"))
    model = OpenAIModel("m", base_url=server.url, timeout=0.3)
    assert fails(model).kind == "Timeout"
    assert fails(model, streaming=True).kind == "Timeout"


def test_a_cancelled_request_hangs_up(server: PlaybackServer) -> None:
    server.play(Answer("", ending="stall", declared=10))
    model = OpenAIModel("m", base_url=server.url)

    async def cancel() -> bool:
        task = asyncio.create_task(model.complete(QUESTION))
        await anyio.to_thread.run_sync(server.reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await anyio.to_thread.run_sync(lambda: server.gone.wait(5))

    assert run(cancel)


# ---- keys


def test_the_key_shows_nowhere(server: PlaybackServer) -> None:
    server.play(Answer({"error": {"message": f"bad key {KEY}", "code": "invalid_api_key"}}, 401))
    model = OpenAIModel("m", base_url=server.url, api_key=KEY)
    error = fails(model)
    shown = "".join(traceback.format_exception(error)) + repr(model) + repr(vars(model)) + repr(error.diagnosis)
    assert KEY not in shown
    assert error.__cause__ is None
    assert error.__context__ is None
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_is_not_sent_where_it_does_not_belong(server: PlaybackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.play(Answer({"error": "no"}, 401), completion())
    error = fails(OpenAIModel("m", base_url=server.url))
    assert KEY not in server.seen[0].headers["authorization"]
    assert "none was sent" in str(error)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    ask(OpenAIModel("m"))
    assert KEY in server.seen[1].headers["authorization"]


def test_no_key_for_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAIModel("gpt-4o-mini")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = OpenAIModel("gpt-4o-mini")
    assert model.base_url == "https://api.openai.com/v1"
    assert (model.profile.counter, model.profile.images) == ("o200k", True)
    assert model.profile.control_tokens == ()
    assert run(model.prepare).window == 128_000


def test_a_key_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="api_key"):
        OpenAIModel("m", base_url="http://127.0.0.1:1/v1", api_key="sk-…wxyz")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x/v1", "http://", "http://user:pass@host/v1", "nonsense"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError):
        OpenAIModel("m", base_url=url)


@pytest.mark.parametrize("bad", [{"window": 0}, {"max_output": -1}, {"timeout": 0}, {"stall_timeout": -1}])
def test_numbers_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        OpenAIModel("m", base_url="http://127.0.0.1:1/v1", **bad)


# ---- loops and concurrency


@pytest.mark.slow
def test_one_model_in_many_loops(server: PlaybackServer) -> None:
    model = OpenAIModel("m", base_url=server.url)
    for _ in range(3):
        server.play(completion("a"), completion("b"), events(delta("c")))

        async def thrice() -> list[str]:
            texts = [(await model.complete(QUESTION)).text for _ in range(2)]
            return texts + [piece.text async for piece in model.stream(QUESTION)]

        assert anyio.run(thrice) == ["a", "b", "c", ""]
    gc.collect()  # a connection that was left open would warn here, and warnings are errors


def test_a_loop_that_ends_while_the_model_lives_leaves_nothing_behind(server: PlaybackServer) -> None:
    server.play(completion(), completion())
    model = OpenAIModel("m", base_url=server.url)
    asyncio.run(model.complete(QUESTION))

    async def and_close() -> None:
        await model.complete(QUESTION)
        await model.aclose()
        await model.aclose()

    asyncio.run(and_close())
    gc.collect()


def test_many_at_once(server: PlaybackServer) -> None:
    server.play(*[completion(str(n)) for n in range(20)])
    model = OpenAIModel("m", base_url=server.url)

    async def all_at_once() -> list[ModelReply]:
        return await asyncio.gather(*[model.complete(QUESTION) for _ in range(20)])

    assert sorted(int(reply.text) for reply in anyio.run(all_at_once)) == list(range(20))
