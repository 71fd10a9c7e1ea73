"""Messages as OpenAI's chat completions have them: a dict each, calls beside the content, results by their id."""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as BadBase64
from collections.abc import Mapping, Sequence
from typing import Any, cast

from wherry.context.shortening import is_deep
from wherry.guard.pieces import Dict, Mended, Part, Piece, as_dict
from wherry.messages import Image, Message, ToolCall

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
_READ = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call"})
_CALLS = frozenset({"tool_calls", "function_call"})
_UNSEEN = frozenset({"cache_control", "id", "type", "object", "created", "model", "annotations", "status", "index"})
"""Keys that no server puts into its prompt."""
SMALL = 200
"""Characters of a field that is kept where a message is made shorter: names, ids, flags."""
_AUDIO_BYTES_A_TOKEN, _FILE_BYTES_A_TOKEN = 400, 4
"""A tenth of a second of speech at 32 kbit/s is a token (OpenAI); files are text at worst."""
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


class OpenAIMessages:
    """Reads and writes these dicts."""

    name = "openai"

    def parts(self, raw: Dict) -> tuple[Sequence[Part], Sequence[Mended]]:
        mended: list[Mended] = []
        fixed: dict[str, Any] = {}
        given = raw.get("role")
        role = _ROLES.get(given) if isinstance(given, str) else None
        if role is None:
            role = fixed["role"] = "user"
            mended.append(f"role {given!r} is none that a server knows")
        for key in ("tool_calls", "function_call"):
            if key in raw and raw[key] is None:  # refused by OpenAI's own servers
                fixed[key] = None
                mended.append(f"{key} is null")
        content = raw.get("content")
        text, images, unknown, more = read_content(content)
        calls, fixed_calls = (), None
        if role == "assistant":
            calls, fixed_calls = _calls(raw, mended)
        elif raw.get("tool_calls"):
            fixed["tool_calls"] = None
            mended.append("calls that no assistant made")
        fixed.update(fixed_calls or {})
        if content is not None and not isinstance(content, str | list):
            fixed["content"] = text
            mended.append("content is neither text nor a list of parts")
        elif not content and not calls:
            if role == "assistant" and not raw.get("refusal") and not raw.get("audio"):
                return (), [*mended, "an assistant's message that says nothing"]
            if content != "":
                fixed["content"] = ""
                mended.append("content is missing")
        call_id = raw.get("tool_call_id") if given != "function" else f"function:{raw.get('name')}"
        name = raw.get("name")
        message = Message(
            cast("Any", role),  # Any: one of the four, by the table
            text,
            tool_calls=calls,
            tool_call_id=call_id if role == "tool" and isinstance(call_id, str) and call_id else None,
            name=name if isinstance(name, str) else None,
            images=images,
        )
        unknown += [json_text(value) for key, value in raw.items() if value and key not in _READ and key not in _UNSEEN]
        written = {key: value for key, value in {**raw, **fixed}.items() if value is not None or key not in _CALLS}
        return (Part(message, written if mended else raw, tuple(unknown), more),), mended

    def join(self, pieces: Sequence[Piece]) -> Dict:
        return joined_dicts([_written(piece) for piece in pieces])

    def write(self, pieces: Sequence[Piece]) -> list[tuple[Dict, Sequence[Piece]]]:
        return [(_written(piece), (piece,)) for piece in pieces]


def joined_dicts(dicts: Sequence[Dict]) -> dict[str, Any]:
    """One dict for several of one role: their texts in a row, all other keys as the first has them, or a later one."""
    names = {raw.get("name") for raw in dicts}
    out: dict[str, Any] = {}
    for raw in dicts:
        out = {**raw, **out}
    contents = [raw.get("content") for raw in dicts]
    if len(names) > 1:
        out.pop("name", None)
        contents = [_by(raw.get("name"), raw.get("content")) for raw in dicts]
    if all(content is None or isinstance(content, str) for content in contents):
        out["content"] = "\n\n".join(cast("str", content) for content in contents if content)
    else:
        out["content"] = [part for content in contents for part in as_parts(content)]
    return out


def _by(name: object, content: object) -> object:
    if not name or not content:
        return content
    if isinstance(content, str):
        return f"{name}: {content}"
    return [{"type": "text", "text": f"{name}:"}, *as_parts(content)]


def as_parts(content: object) -> list[Any]:
    """Content as a list of parts."""
    if isinstance(content, list):
        return cast("list[Any]", content)
    return [{"type": "text", "text": content}] if content else []


# -- reading -----------------------------------------------------------------------------------------------------------


def read_content(content: object) -> tuple[str, list[Image], list[str], int]:
    """Text, pictures, texts that nobody here knows, and tokens of what is neither."""
    if content is None:
        return "", [], [], 0
    if isinstance(content, str):
        return content, [], [], 0
    if not isinstance(content, list | tuple):
        return json_text(content), [], [], 0
    texts: list[str] = []
    images: list[Image] = []
    unknown: list[str] = []
    more = 0
    for part in cast("Sequence[Any]", content):
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping):
            unknown.append(json_text(part))
        else:
            more += _read_part(cast("Dict", part), texts, images, unknown)
    return "\n".join(texts), images, unknown, more


def _read_part(part: Dict, texts: list[str], images: list[Image], unknown: list[str]) -> int:
    match part.get("type"):
        case "text" | "input_text" | "output_text" if isinstance(part.get("text"), str):
            texts.append(part["text"])
        case "refusal" if isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        case "image_url" | "input_image":
            found = part.get("image_url")
            url = cast("Dict", found).get("url") if isinstance(found, Mapping) else found
            images.append(image_of(url if isinstance(url, str) else ""))
        case "image" if isinstance(part.get("source"), Mapping):
            images.append(_anthropic_image(part["source"]))
        case "input_audio":
            data = _bytes(part.get("input_audio"))
            images.append(Image("audio", data=b""))
            return data // _AUDIO_BYTES_A_TOKEN
        case "file" | "document":
            data = _bytes(part.get("file") or part.get("source"))
            images.append(Image("file", data=b""))
            return data // _FILE_BYTES_A_TOKEN
        case _:
            unknown.append(json_text(part))
    return 0


def image_of(url: str) -> Image:
    """A picture by its address, which may hold all of it."""
    if not url.startswith("data:"):
        return Image(url=url[:2_000])
    head, _, data = url.partition(",")
    try:
        return Image(head[5:].partition(";")[0] or "image/png", data=b64decode(data))
    except (BadBase64, ValueError):
        return Image(url="data:")


def _anthropic_image(source: Dict) -> Image:
    if source.get("type") == "base64" and isinstance(source.get("data"), str):
        return image_of(f"data:{source.get('media_type', 'image/png')};base64,{source['data']}")
    return Image(url=str(source.get("url", ""))[:2_000])


def _bytes(value: object) -> int:
    """How many bytes a part holds as base64, or as text."""
    if isinstance(value, Mapping):
        return max((_bytes(item) for item in cast("Dict", value).values()), default=0)
    return len(value) * 3 // 4 if isinstance(value, str) else 0


def _calls(raw: Dict, mended: list[Mended]) -> tuple[tuple[ToolCall, ...], dict[str, Any] | None]:
    """The calls of an assistant's message, and the keys that have to be written anew."""
    legacy = raw.get("function_call")
    if isinstance(legacy, Mapping) and not raw.get("tool_calls"):
        function, wrong = _function(cast("Dict", legacy))
        mended += wrong
        call = ToolCall(f"function:{function['name']}", function["name"], _arguments(function["arguments"]))
        return (call,), {"function_call": function} if wrong else None
    found = raw.get("tool_calls")
    if not isinstance(found, list) or not found:
        if "tool_calls" in raw and found is not None:
            mended.append("tool_calls is empty")
            return (), {"tool_calls": None}
        return (), None
    calls: list[ToolCall] = []
    written: list[Any] = []
    wrongs: list[str] = []
    for number, item in enumerate(cast("list[Any]", found)):
        call, new, wrong = _call(item, number)
        calls.append(call)
        written.append(new)
        wrongs += wrong
    mended += wrongs
    return tuple(calls), {"tool_calls": written} if wrongs else None


def _call(item: object, number: int) -> tuple[ToolCall, object, list[str]]:
    raw = as_dict(item)
    own = as_dict(raw.get("custom"))
    if own and isinstance(raw.get("id"), str):  # a tool that takes text, not JSON
        return ToolCall(raw["id"], str(own.get("name", "")), {"input": own.get("input", "")}), item, []
    function, wrong = _function(as_dict(raw.get("function")))
    call_id = raw.get("id")
    if not isinstance(call_id, str) or not call_id:
        call_id = f"call_{number}"
        wrong.append("a call has no id")
    new = {**raw, "id": call_id, "type": raw.get("type") or "function", "function": function} if wrong else item
    return ToolCall(call_id, function["name"], _arguments(function["arguments"])), new, wrong


def _function(raw: Dict) -> tuple[dict[str, Any], list[str]]:
    name, arguments = raw.get("name"), raw.get("arguments")
    wrong: list[str] = []
    if not isinstance(name, str) or not name:
        name = "unknown"
        wrong.append("a call has no name")
    if not isinstance(arguments, str):
        arguments = _compact(arguments if isinstance(arguments, Mapping) else {})
        wrong.append("arguments of a call are no text")
    elif not _is_object(arguments):
        # Servers that put the arguments into a template as objects answer 400 or 500 to anything else.
        arguments = _compact({"__raw__": arguments}) if arguments.strip() else "{}"
        wrong.append("arguments of a call are no JSON object")
    return {**raw, "name": name, "arguments": arguments}, wrong


def _is_object(text: str) -> bool:
    try:
        value = json.loads(text)
        return isinstance(value, dict) and not is_deep(cast("object", value))
    except (ValueError, RecursionError):
        return False


def _arguments(text: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(text))


def json_text(value: object) -> str:
    """A text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return _compact(value)
    except (ValueError, RecursionError, TypeError):
        return repr(value)


# -- writing -----------------------------------------------------------------------------------------------------------


def _written(piece: Piece) -> Dict:
    if not piece.changed:
        return cast("Dict", piece.raw)
    message, raw = piece.message, piece.raw or {}
    before = piece.read
    small = {key: value for key, value in raw.items() if len(json_text(value)) <= SMALL and key not in _READ}
    out: dict[str, Any] = {"role": raw.get("role", message.role)}
    if before is not None and message.images and len(message.images) == len(before.images):
        shown = [part for part in cast("list[Any]", raw["content"]) if not _is_text(part)]
        out["content"] = [*([{"type": "text", "text": message.content}] if message.content else []), *shown]
    else:
        out["content"] = message.content
    if message.tool_calls:
        out.update(_written_calls(message, raw))
        out["content"] = out["content"] or None
    if message.role == "tool" and raw.get("role") != "function":
        out["tool_call_id"] = message.tool_call_id or ""
    if message.name is not None:
        out["name"] = message.name
    return {**out, **small}


def _is_text(part: object) -> bool:
    return isinstance(part, str) or (
        isinstance(part, Mapping) and "text" in str(cast("Dict", part).get("type", "text"))
    )


def _written_calls(message: Message, raw: Dict) -> dict[str, Any]:
    functions = [{"name": call.name, "arguments": _compact(dict(call.arguments))} for call in message.tool_calls]
    if "function_call" in raw and not raw.get("tool_calls"):
        return {"function_call": functions[0]}
    calls = zip(message.tool_calls, functions, strict=True)
    return {"tool_calls": [{"id": call.id, "type": "function", "function": function} for call, function in calls]}
