"""Models by the names that smolagents has for them. All of them are clients of wherry's below."""

from __future__ import annotations

from wherry.compat.smolagents.api_model import REMOVE_PARAMETER, ApiModel, Model, get_tool_json_schema
from wherry.compat.smolagents.bedrock import AmazonBedrockModel, AmazonBedrockServerModel
from wherry.compat.smolagents.clients import (
    AzureOpenAIModel,
    AzureOpenAIServerModel,
    InferenceClientModel,
    LiteLLMModel,
    LiteLLMRouterModel,
    OpenAIModel,
    OpenAIServerModel,
    TransformersModel,
)
from wherry.compat.smolagents.messages import (
    ChatMessage,
    ChatMessageStreamDelta,
    ChatMessageToolCall,
    ChatMessageToolCallFunction,
    ChatMessageToolCallStreamDelta,
    MessageRole,
    agglomerate_stream_deltas,
    parse_json_if_needed,
)
from wherry.compat.smolagents.monitoring import TokenUsage
from wherry.compat.smolagents.preparing import (
    encode_image_base64,
    get_clean_message_list,
    get_tool_call_from_text,
    remove_content_after_stop_sequences,
    supports_stop_parameter,
    tool_role_conversions,
)

__all__ = [
    "MODEL_REGISTRY",
    "REMOVE_PARAMETER",
    "AmazonBedrockModel",
    "AmazonBedrockServerModel",
    "ApiModel",
    "AzureOpenAIModel",
    "AzureOpenAIServerModel",
    "ChatMessage",
    "ChatMessageStreamDelta",
    "ChatMessageToolCall",
    "ChatMessageToolCallFunction",
    "ChatMessageToolCallStreamDelta",
    "InferenceClientModel",
    "LiteLLMModel",
    "LiteLLMRouterModel",
    "MessageRole",
    "Model",
    "OpenAIModel",
    "OpenAIServerModel",
    "TokenUsage",
    "TransformersModel",
    "agglomerate_stream_deltas",
    "encode_image_base64",
    "get_clean_message_list",
    "get_tool_call_from_text",
    "get_tool_json_schema",
    "parse_json_if_needed",
    "remove_content_after_stop_sequences",
    "supports_stop_parameter",
    "tool_role_conversions",
]

MODEL_REGISTRY: dict[str, type[Model]] = {
    kind.__name__: kind
    for kind in (
        OpenAIModel,
        AzureOpenAIModel,
        InferenceClientModel,
        LiteLLMModel,
        LiteLLMRouterModel,
        TransformersModel,
        AmazonBedrockModel,
    )
}
MODEL_REGISTRY["OpenAIServerModel"] = OpenAIModel
