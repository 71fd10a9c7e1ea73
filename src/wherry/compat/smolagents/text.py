"""Code and calls in a model's text, as smolagents' prompts ask for them."""

from __future__ import annotations

import json
import keyword
import re
from typing import Any, cast

MAX_LENGTH_TRUNCATE_CONTENT = 20_000

_FENCE = re.compile(r"\n?```[ \t]*$")


def fenced(text: str, tags: tuple[str, str]) -> str:
    """A reply with its code between backticks, as wherry reads it; one without the tags as it is.

    A closing tag may be missing: servers cut a reply where a stop sequence begins.
    """
    opening, closing = tags
    if opening.startswith("```") or opening not in text:
        return text
    parts: list[str] = []
    rest = text
    while opening in rest:
        before, _, behind = rest.partition(opening)
        code, closed, rest = behind.partition(closing)
        if not closed:
            code = _FENCE.sub("", code.rstrip())
        parts.append(f"{before.rstrip()}\n```python\n{code.strip(chr(10))}\n```\n")
    return "".join(parts) + rest


def parse_code_blobs(text: str, code_block_tags: tuple[str, str] = ("<code>", "</code>")) -> str:
    """The code in a reply.

    Raises:
        ValueError: it holds none.
    """
    from wherry.agents.reply import UnreadableReplyError, code_of

    opening, closing = (re.escape(tag) for tag in code_block_tags)
    if blocks := re.findall(f"{opening}(.*?){closing}", text, re.DOTALL):
        return "\n\n".join(block.strip() for block in blocks)
    try:
        return code_of(fenced(text, code_block_tags))
    except UnreadableReplyError as error:
        raise ValueError(str(error)) from error


def is_valid_name(name: object) -> bool:
    """Whether something can be the name of a tool or an agent."""
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


def parse_json_blob(json_blob: str) -> tuple[dict[str, Any], str]:
    """The JSON object in a text, and what stands before it.

    Raises:
        ValueError: there is none, or it is malformed.
    """
    start, end = json_blob.find("{"), json_blob.rfind("}")
    if start < 0 or end < start:
        raise ValueError("The model output does not contain any JSON blob.")
    blob = json_blob[start : end + 1]
    try:
        found: object = json.loads(blob, strict=False)
    except ValueError as error:
        raise ValueError(
            f"The JSON blob you used is invalid due to the following error: {error}.\nJSON blob was: {json_blob}"
        ) from error
    return cast("dict[str, Any]", found), json_blob[:start]


def truncate_content(content: str, max_length: int = MAX_LENGTH_TRUNCATE_CONTENT) -> str:
    """At most so many characters of a text: its beginning and its end."""
    if len(content) <= max_length:
        return content
    note = f"\n..._This content has been truncated to stay below {max_length} characters_...\n"
    return content[: max_length // 2] + note + content[-max_length // 2 :]
