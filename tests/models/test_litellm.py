"""LiteLLMModel against a server on loopback. LiteLLM is large: these tests run where it is installed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import traceback
from importlib.util import find_spec
from typing import Any

import anyio
import pytest
from playback_server import Answer, PlaybackServer, completion, delta, events

from wherry.errors import ConfigurationError, ModelError
from wherry.messages import Message, ToolCall, ToolSchema
from wherry.models import (
    LiteLLMModel,
    Model,
    ModelDelta,
    ModelReply,
    ModelRequest,
    Prepared,
    argument_error,
    model_from,
)

pytestmark = [
    # Not importorskip: imported without care, it fetches its prices from the network.
    pytest.mark.skipif(find_spec("litellm") is None, reason="the extra litellm is not installed"),
    # Its own code warns on import and at use; a connection left open stays an error.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

QUESTION = ModelRequest([Message("user", "hello")])
KEY = "sk-test-0123456789-wxyz"


def model_at(server: PlaybackServer, **options: Any) -> LiteLLMModel:
    return LiteLLMModel("openai/m", api_base=server.url, api_key=KEY, **options)


def ask(model: LiteLLMModel, request: ModelRequest = QUESTION) -> ModelReply:
    return anyio.run(model.complete, request)


def stream(model: LiteLLMModel) -> list[ModelDelta]:
    async def collect() -> list[ModelDelta]:
        return [piece async for piece in model.stream(QUESTION)]

    return anyio.run(collect)


def test_a_reply(server: PlaybackServer) -> None:
    usage = {"prompt_tokens": 31, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 30}}
    server.play(completion("hello there", usage={**usage, "total_tokens": 33}))
    model = model_at(server, temperature=0.5)
    assert isinstance(model, Model)
    assert isinstance(model, Prepared)
    tools = [ToolSchema("add", "Adds.", {"type": "object", "properties": {}})]
    reply = ask(model, ModelRequest(QUESTION.messages, tools=tools, max_output=9))
    assert (reply.text, reply.finish_reason) == ("hello there", "stop")
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (31, 30, 2)
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["tools"][0]["function"]["name"]) == ("m", 0.5, "add")
    assert 9 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_tool_calls_there_and_back(server: PlaybackServer) -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "c2", "type": "function", "function": {"name": "add", "arguments": '{"a": '}},
    ]
    server.play(completion(None, tool_calls=calls, finish="tool_calls"), completion("3"))
    model = model_at(server)
    reply = ask(model)
    assert reply.tool_calls[0] == ToolCall("c1", "add", {"a": 1})
    assert argument_error(reply.tool_calls[1])
    results = [Message("tool", "1", tool_call_id="c1"), Message("tool", "?", tool_call_id="c2")]
    assert ask(model, ModelRequest([*QUESTION.messages, reply.message(), *results])).text == "3"
    assert [m["role"] for m in server.bodies[1]["messages"]] == ["user", "assistant", "tool", "tool"]


def test_a_stream(server: PlaybackServer) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    server.play(events(delta("one "), delta("two"), delta(finish="stop"), {"choices": [], "usage": usage}))
    pieces = stream(model_at(server))
    reply = pieces[-1].reply
    assert reply is not None
    assert "".join(p.text for p in pieces) == reply.text == "one two"
    assert reply.usage is not None
    assert reply.usage.input_tokens == 5


def failing(server: PlaybackServer, answer: Answer, *, streaming: bool, **options: Any) -> ModelError:
    server.play(answer)
    with pytest.raises(ModelError) as caught:
        _ = stream(model_at(server, **options)) if streaming else ask(model_at(server, **options))
    return caught.value


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer({"error": {"message": f"bad key {KEY}", "code": "invalid_api_key"}}, 401), "Authentication"),
        (Answer({"error": {"message": "no such model", "code": "model_not_found"}}, 404), "BadRequest"),
        (Answer({"error": {"message": "pay", "code": "insufficient_quota"}}, 429), "QuotaExhausted"),
        (Answer({"error": {"message": "OOM error during inference", "type": "server_error"}}, 500), "OutOfMemory"),
        (Answer({"error": {"message": "prompt is too long: 2000 tokens > 1000 maximum"}}, 400), "ContextOverflow"),
        (Answer({"error": {"message": "Overloaded"}}, 503), "Overloaded"),
        (Answer("", ending="reset", declared=100), "ConnectionLost"),
    ],
)
def test_failures(server: PlaybackServer, answer: Answer, kind: str, streaming: bool) -> None:
    error = failing(server, answer, streaming=streaming)
    assert error.kind == kind, str(error)
    assert len(server.bodies) == 1, "it was retried"
    assert KEY not in "".join(traceback.format_exception(error))
    assert error.__context__ is None
    if kind == "ContextOverflow":
        assert error.diagnosis is not None
        assert (error.diagnosis["limit"], error.diagnosis["requested"]) == (1000, 2000)


def test_time_limits(server: PlaybackServer) -> None:
    stalled = Answer(events(delta("half "), done=False), ending="stall")
    assert failing(server, stalled, streaming=True, stall_timeout=0.3).kind == "Timeout"
    assert failing(server, Answer("", ending="stall", declared=9), streaming=False, timeout=0.3).kind == "Timeout"


def test_a_stream_that_is_reset(server: PlaybackServer) -> None:
    answer = Answer(events(delta("half "), done=False), ending="reset")
    assert failing(server, answer, streaming=True).kind in ("ConnectionLost", "ServerError")


def test_one_model_in_many_loops(server: PlaybackServer) -> None:
    model = model_at(server)
    for _ in range(3):
        server.play(completion("a"))
        assert ask(model).text == "a"
    gc.collect()


def test_the_window_comes_from_the_offline_table() -> None:
    assert anyio.run(LiteLLMModel("openai/gpt-4o-mini").prepare).window == 128_000
    assert anyio.run(LiteLLMModel("openai/never-heard-of-it").prepare).window is None
    assert anyio.run(LiteLLMModel("openai/gpt-4o-mini", window=5000).prepare).window == 5000


def test_the_environment_is_left_alone() -> None:
    before = dict(os.environ)
    anyio.run(LiteLLMModel("openai/gpt-4o-mini").prepare)
    assert dict(os.environ) == before


def test_names() -> None:
    assert isinstance(model_from("anthropic/claude-sonnet-4-5"), LiteLLMModel)
    for name in ("gpt-4o", "/x", "x/"):
        with pytest.raises(ConfigurationError, match="provider/name"):
            LiteLLMModel(name)


def test_nothing_is_printed_and_nothing_left(server: PlaybackServer) -> None:
    server.play(completion("fine"), Answer({"error": "no"}, 401))
    program = f"""if True:
        import asyncio
        from wherry.errors import ModelError
        from wherry.models import LiteLLMModel, ModelRequest
        from wherry.messages import Message
        model = LiteLLMModel("openai/m", api_base={server.url!r}, api_key="k")
        question = ModelRequest([Message("user", "x")])
        assert asyncio.run(model.complete(question)).text == "fine"
        try:
            asyncio.run(model.complete(question))
        except ModelError as error:
            assert error.kind == "Authentication", error.kind
        else:
            raise SystemExit("no error was raised")
    """
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=os.environ)
    assert (done.stdout, done.stderr) == ("", "")
