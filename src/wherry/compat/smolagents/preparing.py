"""What models of a program's own make requests with, by smolagents' names: messages as dicts, and their parameters."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, cast  # Any: parts of messages, parameters of servers

from wherry.compat.smolagents.agent_types import png_of
from wherry.compat.smolagents.messages import (
    ChatMessage,
    ChatMessageToolCall,
    MessageRole,
    new_call,
    parse_json_if_needed,
)
from wherry.compat.smolagents.text import parse_json_blob

tool_role_conversions = {
    MessageRole.TOOL_CALL: MessageRole.ASSISTANT,
    MessageRole.TOOL_RESPONSE: MessageRole.USER,
}
_WITHOUT_STOP = re.compile(r"(o3(?!-mini$)|o4)([-.].*)?|gpt-5.*|([A-Za-z][\w-]*\.)?grok-[A-Za-z0-9][\w.-]*")
"""Models that refuse stop sequences, as their providers' references say (November 2026)."""


def get_clean_message_list(
    message_list: Sequence[ChatMessage | Mapping[str, Any]],
    role_conversions: Mapping[Any, Any] | None = None,
    convert_images_to_image_urls: bool = False,
    flatten_messages_as_text: bool = False,
) -> list[dict[str, Any]]:
    """Messages as a chat template or a server takes them: as dicts, with no two of one role in a row.

    Args:
        message_list: messages; they stay as they are.
        role_conversions: roles that are to be others.
        convert_images_to_image_urls: pictures as `data:` addresses, as OpenAI has them.
        flatten_messages_as_text: contents as one text each.

    Raises:
        ValueError: a role is unknown, or a picture is to be made a text.
    """
    out: list[dict[str, Any]] = []
    content: Any
    for given in message_list:
        named = given.role if isinstance(given, ChatMessage) else given["role"]
        content = given.content if isinstance(given, ChatMessage) else given.get("content")
        if named not in MessageRole.roles():
            raise ValueError(f"Incorrect role {named}, only {MessageRole.roles()} are supported for now.")
        role = (role_conversions or {}).get(named, named)
        parts = _parts(content, as_urls=convert_images_to_image_urls)
        if flatten_messages_as_text and any(part["type"] != "text" for part in parts):
            raise ValueError("pictures cannot be shown to a model that takes texts only (flatten_messages_as_text)")
        if flatten_messages_as_text:
            text = "\n".join(str(part["text"]) for part in parts)
            if out and out[-1]["role"] == role:
                out[-1]["content"] = f"{out[-1]['content']}\n{text}"
            else:
                out.append({"role": role, "content": text})
        elif out and out[-1]["role"] == role:
            before = out[-1]["content"]
            out[-1]["content"] = _joined(_parts(before, as_urls=False), parts)
        else:
            out.append({"role": role, "content": parts if isinstance(content, list) else content})
    return out


def _parts(content: object, *, as_urls: bool) -> list[dict[str, Any]]:
    if not isinstance(content, list):
        return [] if content is None else [{"type": "text", "text": str(content)}]
    return [_part(dict(part), as_urls=as_urls) for part in cast("list[dict[str, Any]]", content)]


def _part(part: dict[str, Any], *, as_urls: bool) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    image = part.pop("image")
    encoded = image if isinstance(image, str) else encode_image_base64(image)
    if as_urls:
        return {**part, "type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
    return {**part, "image": encoded}


def _joined(before: list[dict[str, Any]], parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts that meet become one."""
    for part in parts:
        if before and part["type"] == before[-1]["type"] == "text":
            before[-1] = {**before[-1], "text": f"{before[-1]['text']}\n{part['text']}"}
        else:
            before.append(part)
    return before


def encode_image_base64(image: object) -> str:
    return b64encode(image if isinstance(image, bytes) else png_of(image)).decode()


def supports_stop_parameter(model_id: str) -> bool:
    """Whether a model takes stop sequences."""
    return not _WITHOUT_STOP.fullmatch(model_id.split("/")[-1])


def remove_content_after_stop_sequences(content: str | None, stop_sequences: Sequence[str] | None) -> str | None:
    """A reply up to where it should have stopped."""
    if content is None:
        return None
    for stop in stop_sequences or ():
        content = content.split(stop)[0]
    return content


def get_tool_call_from_text(text: str, tool_name_key: str, tool_arguments_key: str) -> ChatMessageToolCall:
    """The call that a text holds as JSON.

    Raises:
        ValueError: it holds none.
    """
    found, _ = parse_json_blob(text)
    if tool_name_key not in found:
        raise ValueError(f"Tool call needs to have a key '{tool_name_key}'. Got keys: {list(found)} instead")
    return new_call(found[tool_name_key], parse_json_if_needed(found.get(tool_arguments_key)))
