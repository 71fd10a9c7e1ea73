"""Amazon Bedrock, by a client that a program gives."""

from __future__ import annotations

from typing import Any

import pytest
from PIL.Image import new as new_image
from tests.compat_smolagents.test_smolagents_face import actions, double

from wherry.compat.smolagents import AmazonBedrockModel, ChatMessage, MessageRole, TokenUsage, ToolCallingAgent
from wherry.compat.smolagents.models import MODEL_REGISTRY


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


class Client:
    """What boto3 gives for `bedrock-runtime`, as far as it is used."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def converse(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        message = {"role": "assistant", "content": self.answers.pop(0)}
        return {
            "output": {"message": message},
            "usage": {"inputTokens": 7, "outputTokens": 2},
            "stopReason": "end_turn",
        }


def test_a_request_and_its_reply() -> None:
    client = Client([{"reasoningContent": {}}, {"text": "so"}])
    model = AmazonBedrockModel(
        "amazon.nova", client, temperature=0.5, inferenceConfig={"maxTokens": 9}, guardrailConfig={}
    )
    image = {"type": "image", "image": new_image("RGB", (1, 1))}
    said = model.generate(
        [
            ChatMessage(MessageRole.SYSTEM, "rules"),
            ChatMessage(MessageRole.USER, [{"type": "text", "text": "look"}, image, {"type": "text", "text": ""}]),
            ChatMessage(MessageRole.TOOL_CALL, [{"type": "text", "text": "I call"}]),
            ChatMessage(MessageRole.TOOL_RESPONSE, ""),
        ],
        stop_sequences=["STOP"],
    )
    assert (said.content, said.tool_calls, said.token_usage) == ("so", None, TokenUsage(7, 2))
    (asked,) = client.asked
    picture = asked["messages"][0]["content"].pop(1)
    assert picture["image"]["source"]["bytes"].startswith(b"\x89PNG")
    assert asked == {
        "modelId": "amazon.nova",
        "system": [{"text": "rules"}],
        "messages": [
            {"role": "user", "content": [{"text": "look"}]},
            {"role": "assistant", "content": [{"text": "I call"}]},
            {"role": "user", "content": [{"text": "..."}]},
        ],
        "inferenceConfig": {"temperature": 0.5, "maxTokens": 9, "stopSequences": ["STOP"]},
        "guardrailConfig": {},
    }
    with pytest.raises(ValueError, match="response_format"):
        model.generate([], response_format={"type": "json_object"})


def test_an_agent_that_calls_tools() -> None:
    client = Client(
        [{"text": "I call."}, {"toolUse": {"toolUseId": "t1", "name": "double", "input": {"n": 21}}}],
        [{"toolUse": {"toolUseId": "t2", "name": "final_answer", "input": {"answer": "42"}}}],
    )
    model = AmazonBedrockModel("m", client=client, custom_role_conversions={"system": "user"}, window=32_000)
    agent = ToolCallingAgent([double], model, verbosity_level=-1)
    assert agent.run("What is twice 21?") == "42"
    assert actions(agent)[0].observations == "42"
    spec = client.asked[0]["toolConfig"]["tools"][0]["toolSpec"]
    assert (spec["name"], spec["inputSchema"]["json"]["required"]) == ("double", ["n"])
    assert "system" not in client.asked[0]
    assert [one["role"] for one in client.asked[1]["messages"]] == ["user", "assistant", "user"]
    assert MODEL_REGISTRY["AmazonBedrockModel"] is AmazonBedrockModel
