"""Models of Amazon Bedrock, asked by its Converse interface with the package boto3."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, cast  # Any: parameters of Bedrock's

from wherry.compat.smolagents.api_model import REMOVE_PARAMETER, ApiModel, get_tool_json_schema
from wherry.compat.smolagents.messages import ChatMessage, MessageRole, new_call
from wherry.compat.smolagents.monitoring import TokenUsage
from wherry.compat.smolagents.preparing import get_clean_message_list, tool_role_conversions
from wherry.errors import ConfigurationError

_INFERENCE = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
"""What other models call Bedrock's parameters."""


class AmazonBedrockModel(ApiModel):
    """A model of Amazon Bedrock.

    Raises:
        ConfigurationError: there is no `client`, and boto3 is not installed.
    """

    client_call: ClassVar[str] = "converse"

    def __init__(
        self,
        model_id: str,
        client: Any = None,
        client_kwargs: Mapping[str, Any] | None = None,
        custom_role_conversions: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model_id: as Bedrock names it: `us.amazon.nova-pro-v1:0`.
            client: of boto3's, for `bedrock-runtime`.
            client_kwargs: what one is made with: `region_name`, `endpoint_url`, ...
            custom_role_conversions: roles that are to be others; `{"system": "user"}` for models without system
                prompts.
            kwargs: those of `ApiModel`, and Bedrock's: `inferenceConfig`, `guardrailConfig`, ...
        """
        self._client_kwargs = dict(client_kwargs or {})
        super().__init__(model_id, custom_role_conversions, client, **kwargs)

    def create_client(self) -> Any:
        if find_spec("boto3") is None:
            raise ConfigurationError("AmazonBedrockModel needs the package boto3", hint="pip install boto3")
        boto3: Any = import_module("boto3")
        return boto3.client("bedrock-runtime", **self._client_kwargs)

    def generate(
        self,
        messages: list[ChatMessage],
        stop_sequences: list[str] | None = None,
        response_format: Any = None,
        tools_to_call_from: list[Any] | None = None,
        **kwargs: Any,
    ) -> ChatMessage:
        """Ask the model.

        Raises:
            ValueError: `response_format` is given: Bedrock has none.
        """
        if response_format is not None:
            raise ValueError("Amazon Bedrock does not support response_format")
        roles = {**tool_role_conversions, **(self.custom_role_conversions or {})}
        cleaned = get_clean_message_list(messages, roles)
        given = {key: value for key, value in {**kwargs, **self.kwargs}.items() if value is not REMOVE_PARAMETER}
        inference = {theirs: given.pop(ours) for ours, theirs in _INFERENCE.items() if ours in given}
        inference |= given.pop("inferenceConfig", {})
        if stop_sequences and self.supports_stop_parameter:
            inference.setdefault("stopSequences", list(stop_sequences))
        asked: dict[str, Any] = {
            "modelId": self.model_id,
            "messages": [
                {"role": str(MessageRole(one["role"]).value), "content": _blocks(one["content"])}
                for one in cleaned
                if one["role"] != MessageRole.SYSTEM
            ],
        }
        if system := [
            block for one in cleaned if one["role"] == MessageRole.SYSTEM for block in _blocks(one["content"])
        ]:
            asked["system"] = system
        if inference:
            asked["inferenceConfig"] = inference
        if tools_to_call_from:
            asked["toolConfig"] = {"tools": [_tool(one) for one in tools_to_call_from]}
        answer: Mapping[str, Any] = self.client.converse(**{**asked, **given})
        return _read(answer)


AmazonBedrockServerModel = AmazonBedrockModel


def _blocks(content: Any) -> list[dict[str, Any]]:
    """Parts of a message as Bedrock has them. It takes no empty texts."""
    if not isinstance(content, list):
        return [{"text": str(content or "") or "..."}]
    blocks: list[dict[str, Any]] = []
    for part in cast("list[dict[str, Any]]", content):
        if part["type"] == "image":
            blocks.append({"image": {"format": "png", "source": {"bytes": b64decode(part["image"])}}})
        elif part["text"]:
            blocks.append({"text": part["text"]})
    return blocks or [{"text": "..."}]


def _tool(tool: Any) -> dict[str, Any]:
    function = get_tool_json_schema(tool)["function"]
    schema = {"json": function["parameters"]}
    return {"toolSpec": {"name": function["name"], "description": function["description"], "inputSchema": schema}}


def _read(answer: Mapping[str, Any]) -> ChatMessage:
    blocks: list[dict[str, Any]] = answer["output"]["message"]["content"]
    text = "".join(block.get("text", "") for block in blocks)
    calls = [new_call(block["toolUse"]["name"], block["toolUse"]["input"]) for block in blocks if "toolUse" in block]
    used: Mapping[str, int] = answer.get("usage") or {}
    usage = TokenUsage(used["inputTokens"], used["outputTokens"]) if used else None
    return ChatMessage(MessageRole.ASSISTANT, text, calls or None, raw=answer, token_usage=usage)
