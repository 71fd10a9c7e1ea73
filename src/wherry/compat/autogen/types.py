"""The types that programs import from `autogen.types`."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

from wherry.compat.autogen.messages import Dict

MessageContentType: TypeAlias = "str | list[Dict | str] | None"


class UserMessageTextContentPart(TypedDict):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class UserMessageImageContentPart(TypedDict):
    """A part of a message that is a picture."""

    type: Literal["image_url"]
    image_url: dict[Literal["url"], str]
