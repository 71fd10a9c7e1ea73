"""Messages as Anthropic's API has them: blocks of content, results of calls in the user's message after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, cast

from wherry.context.shortening import is_deep
from wherry.guard.openai_messages import SMALL, as_parts, json_text, read_content
from wherry.guard.pieces import Dict, Mended, Part, Piece, as_dict
from wherry.messages import Message, ToolCall

_THINKING = frozenset({"thinking", "redacted_thinking"})
BLOCKS = _THINKING | {"tool_use", "tool_result", "server_tool_use"}
"""Kinds of blocks that tell these messages from OpenAI's."""
_SILENT = "(no text)"
"""Said by a user that says nothing: the API refuses empty content."""
_READ = frozenset({"role", "content"})


class AnthropicMessages:
    """Reads and writes these dicts."""

    name = "anthropic"

    def parts(self, raw: Dict) -> tuple[Sequence[Part], Sequence[Mended]]:
        mended: list[Mended] = []
        role = raw.get("role")
        if role not in ("user", "assistant", "system"):
            mended.append(f"role {role!r} is none that a server knows")
            role = "user"
        given = raw.get("content")
        blocks = [block for block in as_parts(given) if not _is_empty(block)]
        if isinstance(given, list) and len(blocks) < len(cast("list[object]", given)):
            mended.append("an empty block")
        if not blocks:
            if role == "assistant":
                return (), [*mended, "an assistant's message that says nothing"]
            mended.append("content is missing")
            blocks = [{"type": "text", "text": _SILENT}]
        unknown = [json_text(value) for key, value in raw.items() if value and key not in _READ]
        if role == "assistant":
            part = _assistant(blocks, mended, unknown)
            return (Part(part.message, {**raw, **part.raw} if mended else raw, part.unknown, 0, part.stays),), mended
        if role == "system":
            return (Part(Message("system", read_content(blocks)[0]), raw),), mended
        parts = _user(blocks, mended)
        if len(parts) == 1 and not mended:
            return (Part(parts[0].message, raw, (*parts[0].unknown, *unknown), parts[0].more),), mended
        return [Part(p.message, p.raw, p.unknown, p.more, of=0 if mended else len(parts)) for p in parts], mended

    def join(self, pieces: Sequence[Piece]) -> Dict:
        dicts = [_written(piece) for piece in pieces]
        contents = [raw["content"] for raw in dicts]
        out: dict[str, Any] = {}
        for raw in dicts:
            out = {**raw, **out}
        if all(isinstance(content, str) for content in contents):
            return {**out, "content": "\n\n".join(contents)}
        return {**out, "content": [block for content in contents for block in as_parts(content)]}

    def write(self, pieces: Sequence[Piece]) -> list[tuple[Dict, Sequence[Piece]]]:
        out: list[tuple[Dict, Sequence[Piece]]] = []
        run: list[Piece] = []
        for piece in pieces:
            result_or_user = piece.message.role in ("user", "tool")
            # What a user says after results is one message with them; results never follow what a user says.
            if run and (not result_or_user or run[-1].message.role == "user"):
                out.append((self._together(run), run))
                run = []
            if result_or_user:
                run.append(piece)
            else:
                out.append((_written(piece), (piece,)))
        if run:
            out.append((self._together(run), run))
        return out

    def _together(self, run: Sequence[Piece]) -> Dict:
        if len(run) == 1:
            return _written(run[0])
        source = run[0].source
        if source is not None and len(run) == run[0].of and all(p.source is source and not p.changed for p in run):
            return source
        return self.join(run)


def _is_empty(block: object) -> bool:
    found = as_dict(block)
    return found.get("type") == "text" and not str(found.get("text") or "").strip()


def _assistant(blocks: Sequence[Any], mended: list[Mended], unknown: list[str]) -> Part:
    calls: list[ToolCall] = []
    written: list[Any] = []
    rest: list[Any] = []
    stays: list[str] = []
    for number, block in enumerate(blocks):
        kind = as_dict(block).get("type")
        new = block
        if kind == "tool_use":
            call, new = _call(as_dict(block), number, mended)
            calls.append(call)
        elif kind in _THINKING:
            stays.append(str(block.get("thinking") or block.get("data") or ""))
        else:
            rest.append(block)
        written.append(new)
    text, images, more_unknown, _ = read_content(rest)
    message = Message("assistant", text, tool_calls=calls, images=images)
    return Part(message, {"content": written}, (*unknown, *more_unknown), stays=tuple(stays))


def _call(block: Dict, number: int, mended: list[Mended]) -> tuple[ToolCall, Dict]:
    call_id, name, given = block.get("id"), block.get("name"), cast("object", block.get("input"))
    arguments = as_dict(given)
    if is_deep(arguments):
        given, arguments = None, {"left_out": "arguments that are nested too deeply"}
    if not (call_id and isinstance(call_id, str) and name and isinstance(name, str) and isinstance(given, Mapping)):
        mended.append("a call without id, name or input")
        call_id, name = str(call_id or f"call_{number}"), str(name or "unknown")
        if not isinstance(given, Mapping) and given:
            arguments = {"__raw__": json_text(given)}
        block = {**block, "id": call_id, "name": name, "input": arguments}
    return ToolCall(call_id, name, arguments), block


def _user(blocks: Sequence[Any], mended: list[Mended]) -> list[Part]:
    results = [block for block in blocks if _is_result(block)]
    others = [block for block in blocks if not _is_result(block)]
    if results and others and blocks[: len(results)] != results:
        mended.append("results do not come first")
    parts = [_result(as_dict(block)) for block in results]
    if others:
        text, images, unknown, more = read_content(others)
        raw = {"role": "user", "content": others}
        parts.append(Part(Message("user", text, images=images), raw, tuple(unknown), more))
    return parts


def _is_result(block: object) -> bool:
    return as_dict(block).get("type") == "tool_result"


def _result(block: Dict) -> Part:
    text, images, unknown, more = read_content(block.get("content"))
    call_id = block.get("tool_use_id")
    message = Message("tool", text, tool_call_id=call_id if isinstance(call_id, str) else None, images=images)
    return Part(message, {"role": "user", "content": [block]}, tuple(unknown), more)


# -- writing -----------------------------------------------------------------------------------------------------------


def _written(piece: Piece) -> Dict:
    if not piece.changed:
        return cast("Dict", piece.raw)
    message, raw = piece.message, piece.raw or {}
    kept = as_parts(raw.get("content"))
    if message.role == "tool":
        return {"role": "user", "content": [_written_result(piece, as_dict(kept[0]) if kept else {})]}
    if message.role == "system" or (message.role == "user" and not message.images):
        # A mark for the prompt cache stays where there was one.
        marks = [as_dict(block)["cache_control"] for block in kept if "cache_control" in as_dict(block)]
        if marks:
            return {"role": message.role, "content": [_text(message.content, cache_control=marks[-1])]}
        return {"role": message.role, "content": message.content or _SILENT}
    if message.role == "user":
        return {"role": "user", "content": [*([_text(message.content)] if message.content else []), *_shown(kept)]}
    thinking = [block for block in kept if as_dict(block).get("type") in _THINKING]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)}
        for call in message.tool_calls
    ]
    if not thinking and not calls:
        return {"role": "assistant", "content": message.content or _SILENT}
    said = [_text(message.content)] if message.content.strip() else []
    return {"role": "assistant", "content": [*thinking, *said, *calls]}


def _written_result(piece: Piece, block: Dict) -> Dict:
    message = piece.message
    content: Any = message.content
    if message.images and piece.read is not None and len(message.images) == len(piece.read.images):
        content = [*([_text(content)] if content else []), *_shown(as_parts(block.get("content")))]
    small = {key: value for key, value in block.items() if key != "content" and len(json_text(value)) <= SMALL}
    return {**small, "type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": content}


def _text(text: str, **more: object) -> Dict:
    return {"type": "text", "text": text, **more}


def _shown(blocks: Sequence[Any]) -> list[Any]:
    """The blocks that are no text."""
    groups = groupby(blocks, key=lambda block: as_dict(block).get("type") == "text" or isinstance(block, str))
    return [block for is_text, found in groups if not is_text for block in found]
