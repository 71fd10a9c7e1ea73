"""What is marked for Anthropic's prompt cache, and that LiteLLM hands it on."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, cast

import anyio
import pytest
from playback_server import Answer, PlaybackServer

from wherry.messages import Image, Message, ToolCall, ToolSchema
from wherry.models import LiteLLMModel, ModelRequest
from wherry.models.cache_marks import mark, needs_marks
from wherry.models.chat_completions import request_body

TOOLS = [ToolSchema(name, "Does it.", {"type": "object", "properties": {}}) for name in ("first", "last")]
TALK = [
    Message("system", "You help."),
    Message("user", "Do it."),
    Message("assistant", "Yes.", tool_calls=[ToolCall("a", "first", {}), ToolCall("b", "last", {})]),
    Message("tool", "one", tool_call_id="a", name="first"),
    Message("tool", "two", tool_call_id="b", name="last"),
]


def body_of(messages: list[Message], tools: list[ToolSchema] | None = None, **settings: Any) -> dict[str, Any]:
    request = ModelRequest(messages, tools if tools is not None else TOOLS, settings=settings)
    body = request_body(request, model="m", settings={}, limit={})
    mark(body)
    return body


def marked(body: dict[str, Any]) -> list[int]:
    def has_mark(message: dict[str, Any]) -> bool:
        content: object = message["content"]
        last = cast("list[dict[str, Any]]", content)[-1] if isinstance(content, list) else message
        return "cache_control" in last

    return [index for index, message in enumerate(body["messages"]) if has_mark(message)]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("anthropic/claude-sonnet-4-5", True),
        ("bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0", True),
        ("vertex_ai/claude-opus-4", True),
        ("openrouter/anthropic/claude-3.7-sonnet", True),
        ("openai/gpt-4o-mini", False),
        ("gemini/gemini-2.5-pro", False),
    ],
)
def test_anthropics_models_need_marks(name: str, needs: bool) -> None:
    assert needs_marks(name) is needs


def test_four_marks_that_the_next_request_finds_again() -> None:
    first, second = body_of(TALK[:2]), body_of(TALK)
    assert marked(first) == [0, 1]
    assert marked(second) == [0, 1, 4]
    assert "cache_control" in second["tools"][-1]
    assert "cache_control" not in second["tools"][0]


def test_at_most_four_marks_however_long_the_talk() -> None:
    talk = [*TALK, *TALK[2:], *TALK[2:], Message("assistant", "Well."), Message("user", "go on")]
    body = body_of(talk)
    assert len(marked(body)) + sum("cache_control" in tool for tool in body["tools"]) == 4


def test_pictures_carry_the_mark_and_empty_texts_do_not() -> None:
    picture = body_of([Message("user", "see", images=[Image(data=b"x")])], [])
    assert "cache_control" in picture["messages"][0]["content"][-1]
    assert marked(body_of([Message("system", "s"), Message("user", "")], [])) == [0]


def test_the_users_own_marks_stay() -> None:
    assert marked(body_of(TALK, cache_control_injection_points=[{"location": "message", "role": "system"}])) == []


@pytest.mark.skipif(find_spec("litellm") is None, reason="the extra litellm is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_litellm_hands_the_marks_on_and_the_hits_back(server: PlaybackServer) -> None:
    usage = {
        "input_tokens": 12,
        "cache_read_input_tokens": 4000,
        "cache_creation_input_tokens": 300,
        "output_tokens": 5,
    }
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
              "content": [{"type": "text", "text": "done"}], "stop_reason": "end_turn", "usage": usage}  # fmt: skip
    server.play(Answer(answer))
    model = LiteLLMModel("anthropic/claude-sonnet-4-5", api_base=server.url, api_key="sk-ant-test-0123456789")
    reply = anyio.run(model.complete, ModelRequest(TALK, TOOLS))
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.cached_tokens) == (4312, 4000)
    body = cast("dict[str, Any]", server.seen[-1].body)
    assert "cache_control" in body["system"][0]
    assert "cache_control" in body["tools"][-1]
    blocks = [block for message in body["messages"] for block in message["content"]]
    assert [block["type"] for block in blocks if "cache_control" in block] == ["text", "tool_result"]
    assert "cache_control" in blocks[-1]
