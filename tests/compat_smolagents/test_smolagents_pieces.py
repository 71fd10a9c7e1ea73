"""Replies piece by piece, outside of any agent."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.compat_smolagents.test_smolagents_face import Scripted, calls, double
from tests.models.playback_server import Answer, PlaybackServer, delta, events

from wherry.agents import portal
from wherry.compat.smolagents import (
    ApiModel,
    ChatMessage,
    MessageRole,
    OpenAIModel,
    TokenUsage,
    agglomerate_stream_deltas,
)
from wherry.errors import ModelError

QUESTION = [ChatMessage(MessageRole.USER, "hello")]


def close(model: Any) -> None:
    portal.call(model.core().aclose)


def test_a_reply_comes_in_pieces_with_its_calls_and_usage_at_the_end() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "double", "arguments": '{"n": 2}'}}
    usage: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    with PlaybackServer() as server:
        last = delta(finish="tool_calls", tool_calls=[call])
        server.play(events(delta(role="assistant"), delta("one "), delta("two"), last, usage))
        model = OpenAIModel("m", server.url, "none")
        pieces = list(model.generate_stream(QUESTION, ["x"], tools_to_call_from=[double], temperature=0.5))
        close(model)
    assert [piece.content for piece in pieces] == ["one ", "two", ""]
    assert pieces[-1].token_usage == TokenUsage(5, 3)
    whole = agglomerate_stream_deltas(pieces)
    assert whole.content == "one two"
    assert whole.tool_calls is not None
    assert (whole.tool_calls[0].function.name, whole.tool_calls[0].function.arguments) == ("double", '{"n": 2}')
    sent = server.bodies[0]
    assert (sent["stream"], sent["stop"], sent["temperature"]) == (True, ["x"], 0.5)
    assert sent["tools"][0]["function"]["name"] == "double"


def test_pieces_are_there_before_the_end_and_a_reader_that_leaves_ends_the_request() -> None:
    with PlaybackServer() as server:
        server.play(Answer(events(delta("so far"), done=False), ending="stall"))
        model = OpenAIModel("m", server.url, "none")
        reply = model.generate_stream(QUESTION)
        assert next(reply).content == "so far"
        assert not server.gone.is_set()
        reply.close()
        assert server.gone.wait(30)
        close(model)


def test_a_stream_that_fails_is_told() -> None:
    with PlaybackServer() as server:
        server.play(Answer({"error": {"message": "no such model"}}, 404))
        model = OpenAIModel("m", server.url, "none")
        with pytest.raises(ModelError):
            list(model.generate_stream(QUESTION))
        close(model)


def test_a_model_of_ones_own_gives_its_reply_in_one_piece() -> None:
    class Own(ApiModel):
        def generate(self, *args: Any, **options: Any) -> ChatMessage:
            return Scripted(calls(("double", {"n": 2}))).generate(*args, **options)

    first, last = Own("m").generate_stream(QUESTION)
    assert first.content == "I call."
    assert last.tool_calls is not None
    assert cast("Any", last.tool_calls[0].function).arguments == '{"n": 2}'
