"""Messages as classic agents have them: dicts of OpenAI's kind, with `tool_responses` and `name` besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast  # Any: JSON of a program's own, with whatever keys it has

Dict: TypeAlias = "dict[str, Any]"

_KEPT = ("content", "function_call", "tool_responses", "tool_calls", "tool_call_id", "name", "context")


def to_dict(message: object) -> Dict:
    """What a reply function or a user gave, as a message."""
    if isinstance(message, str):
        return {"content": message}
    if isinstance(message, Mapping):
        return dict(cast("Mapping[str, Any]", message))
    dump: Callable[[], Dict] | None = getattr(message, "model_dump", None) or getattr(message, "dict", None)
    if dump is None:
        raise ValueError(f"{type(message).__name__} is no message: give a text or a dict")
    return dump()


def as_kept(message: object, role: str, name: str) -> Dict | None:
    """A message as it stands in a conversation; None where it says nothing and calls nothing.

    Args:
        message: What was sent.
        role: `"assistant"` in the sender's conversation, `"user"` in the recipient's.
        name: The sender's.
    """
    given = to_dict(message)
    kept = {key: given[key] for key in _KEPT if given.get(key) is not None}
    if "content" not in kept:
        if "function_call" not in kept and "tool_calls" not in kept:
            return None
        kept["content"] = None
    if given.get("role") in ("function", "tool"):
        kept["role"] = given["role"]
        if "tool_responses" in kept:
            kept["tool_responses"] = [{**one, "content": str(one["content"])} for one in kept["tool_responses"]]
    else:
        kept["role"] = given.get("override_role", role)
    if kept.get("function_call") or kept.get("tool_calls"):
        kept["role"] = "assistant"
    elif "name" not in kept:
        kept["name"] = name
    return kept


def unrolled(messages: Sequence[Dict]) -> list[Dict]:
    """The messages as a model's server takes them: results of calls apart, texts that are functions called."""
    out: list[Dict] = []
    for message in messages:
        results: Sequence[Dict] = message.get("tool_responses") or ()
        if results:
            out += [{**one, "content": content_str(one.get("content"))} for one in results]
            if message.get("role") == "tool":
                continue  # its own content is all of theirs
        out.append(_sent(message))
    return out


def _sent(message: Dict) -> Dict:
    sent = {key: value for key, value in message.items() if key not in ("tool_responses", "context", "override_role")}
    if callable(sent.get("content")):
        sent["content"] = sent["content"](message.get("context") or {})
    if sent.get("role") == "tool" and not sent.get("tool_call_id"):
        sent["role"] = "user"
    return sent


def content_str(content: Any) -> str:
    """The text of a content, which may be a list of parts; pictures as `<image>`.

    Raises:
        TypeError: it is neither text nor parts.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise TypeError(f"content must be None, str, or list, but got {type(content)}")
    texts: list[str] = []
    for part in cast("Sequence[Any]", content):
        if not isinstance(part, Mapping):
            raise TypeError(f"Wrong content format: every element should be dict, got {type(part)}")
        kind = cast("Mapping[str, Any]", part).get("type")
        texts.append(str(cast("Mapping[str, Any]", part).get("text", "")) if kind == "text" else f"<{kind or 'part'}>")
    return "".join(text.replace("<image_url>", "<image>") for text in texts)


def normalized_name(name: str) -> str:
    """A name with what servers take: letters, digits, `_` and `-`, at most 64."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:64]


def shown(message: Dict, sender: str, recipient: str) -> str:
    """A message as it is printed."""
    lines = [f"{sender} (to {recipient}):\n"]
    role = message.get("role")
    if results := message.get("tool_responses"):
        for one in results:
            lines += [f"***** Response from calling tool ({one.get('tool_call_id', '')}) *****", str(one["content"])]
        if role == "tool":
            return "\n".join([*lines, "-" * 80])
    if role in ("function", "tool"):
        called = message.get("name") or message.get("tool_call_id") or ""
        lines += [f"***** Response from calling {role} ({called}) *****", str(message.get("content"))]
        return "\n".join([*lines, "-" * 80])
    content = message.get("content")
    if callable(content):
        content = content(message.get("context") or {})
    if content is not None:
        lines.append(content_str(content) if isinstance(content, str | list) else str(content))
    calls = [call.get("function", {}) for call in message.get("tool_calls") or ()]
    if call := message.get("function_call"):
        calls.append(call)
    for call in calls:
        lines.append(f"***** Suggested call: {call.get('name', '')} *****\nArguments:\n{call.get('arguments', '')}")
    return "\n".join([*lines, "-" * 80])
