"""Random conversations as dicts, and a check of what comes out that shares nothing with the code under test."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tests.context.conversations import KINDS, exact, text_of

from wherry.messages import Message, ToolCall, ToolSchema

Dict = Mapping[str, Any]


def conversation(seed: int, *, odd: bool = False, most: int = 12_000) -> list[dict[str, Any]]:
    """Tool conversations as agents have them; with `odd`, broken as they are found in the wild."""
    chance = random.Random(seed)

    def text(limit: int) -> str:
        size = chance.choice([40, 200, 1_000, limit])
        return text_of(chance.choice(KINDS), size, chance.randrange(20)).encode("utf-8", "replace").decode()

    messages: list[dict[str, Any]] = []
    if chance.random() < 0.8:
        messages.append({"role": "system", "content": f"You help. {chance.randrange(10**6)} " + "Be kind. " * 20})
    call = 0
    for turn in range(chance.randint(1, 12)):
        messages.append({"role": "user", "content": f"Question {turn} of {seed}: {text(800)}"})
        for _ in range(chance.choice([0, 1, 1, 2, 6])):
            count = chance.choice([1, 1, 1, 2, 3, 8])
            calls: list[dict[str, Any]] = []
            for _ in range(count):
                call += 1
                arguments = json.dumps({"q": text(2_000) if chance.random() < 0.1 else call})
                calls.append(
                    {"id": f"c{call}", "type": "function", "function": {"name": "search", "arguments": arguments}}
                )
            said = chance.choice([None, "", "I look it up."])
            messages.append({"role": "assistant", "content": said, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": item["id"], "content": text(most)} for item in calls]
        if turn < 11 and chance.random() < 0.9:
            messages.append({"role": "assistant", "content": f"Answer {turn}: {text(500)}"})
    if messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": f"And now? {chance.randrange(10**6)}"})
    return _broken(messages, chance) if odd else messages


def _broken(messages: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for raw in messages:
        what = chance.random()
        if what < 0.06:
            continue
        if what < 0.10:
            raw = {**raw, "content": chance.choice([None, "", [], 7])}
        elif what < 0.13:
            raw = {key: value for key, value in raw.items() if key != chance.choice(["content", "tool_call_id"])}
        elif what < 0.15 and "tool_calls" in raw:
            raw = {**raw, "tool_calls": chance.choice([[], None, raw["tool_calls"][:1]])}
        elif what < 0.17 and raw.get("tool_calls"):
            first = raw["tool_calls"][0]
            function = {**first["function"], "arguments": chance.choice(["{", "", None, "[1]", {"q": 1}])}
            raw = {**raw, "tool_calls": [{**first, "function": function}, *raw["tool_calls"][1:]]}
        elif what < 0.19:
            raw = {**raw, "role": chance.choice(["developer", "system", "narrator", "assistant", "user"])}
        elif what < 0.21:
            out.append({**raw})
        elif what < 0.23:
            out.append({"role": "tool", "tool_call_id": "nobody's", "content": "a stray"})
        out.append(raw)
    return out or [{"role": "user", "content": None}]


def faults(messages: Sequence[Dict]) -> list[str]:
    """What a strict server would refuse, in words."""
    found: list[str] = []
    waiting: list[str] = []
    before = ""
    for index, raw in enumerate(messages):
        role, content = raw.get("role"), raw.get("content")
        if role not in ("system", "user", "assistant", "tool", "developer"):
            found.append(f"{index}: role {role!r}")
        if role in ("system", "developer") and index:
            found.append(f"{index}: a system message that is not the first")
        if not isinstance(content, str | list) and not (role == "assistant" and raw.get("tool_calls")):
            found.append(f"{index}: content {content!r}")
        if role == "assistant" and not content and not raw.get("tool_calls"):
            found.append(f"{index}: an assistant that says nothing")
        if role == "tool":
            if raw.get("tool_call_id") in waiting:
                waiting.remove(raw["tool_call_id"])
            else:
                found.append(f"{index}: a result without its call")
        elif waiting:
            found.append(f"{index}: calls without results: {waiting}")
            waiting = []
        if role == before and role in ("user", "assistant"):
            found.append(f"{index}: two of {role} in a row")
        if before in ("", "system", "developer") and role not in ("user", "system", "developer"):
            found.append(f"{index}: begins with {role}")
        if "tool_calls" in raw:
            if not raw["tool_calls"]:
                found.append(f"{index}: empty tool_calls")
            for call in raw["tool_calls"] or ():
                waiting.append(call["id"])
                if not isinstance(json.loads(call["function"]["arguments"]), dict):
                    found.append(f"{index}: arguments")
        before = str(role)
    if waiting:
        found.append(f"the end: calls without results: {waiting}")
    return found


def split_groups(given: Sequence[Dict], out: Sequence[Dict]) -> list[str]:
    """Turns of which some calls are there and others not."""
    whole = [{call["id"] for call in raw.get("tool_calls") or ()} for raw in given]
    kept = [{call["id"] for call in raw.get("tool_calls") or ()} for raw in out]
    return [f"{sorted(ids)} is in no turn that was given" for ids in kept if ids and ids not in whole]


def counted(messages: Sequence[Dict], tools: Sequence[Dict] = ()) -> int:
    """Tokens as Qwen2.5's server counts them."""
    read: list[Message] = []
    for raw in messages:
        calls = [
            ToolCall(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in raw.get("tool_calls") or ()
        ]
        content = raw.get("content") or ""
        if not isinstance(content, str):
            content = "\n".join(part.get("text", "") for part in content)
        role = "system" if raw["role"] == "developer" else raw["role"]
        read.append(Message(role, content, tool_calls=calls, tool_call_id=raw.get("tool_call_id")))
    schemas = [
        ToolSchema(tool["function"]["name"], tool["function"]["description"], tool["function"]["parameters"])
        for tool in tools
    ]
    return exact(read, schemas)


def as_anthropic(messages: Sequence[Dict]) -> tuple[str | None, list[dict[str, Any]]]:
    """The same conversation as Anthropic's API has it: the system prompt apart, results in the user's messages."""
    system: str | None = None
    out: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    """Of the last message, while it is made of results."""
    for raw in messages:
        if raw["role"] == "system":
            system = raw["content"]
        elif raw["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": raw["tool_call_id"], "content": raw["content"]}
            if not results:
                out.append({"role": "user", "content": results})
            results.append(block)
            continue
        elif raw.get("tool_calls"):
            blocks: list[dict[str, Any]] = [{"type": "text", "text": raw["content"]}] if raw["content"] else []
            for call in raw["tool_calls"]:
                arguments = json.loads(call["function"]["arguments"])
                blocks.append(
                    {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": arguments}
                )
            out.append({"role": "assistant", "content": blocks})
        elif raw["role"] == "user" and results:
            results.append({"type": "text", "text": raw["content"]})
        else:
            out.append({"role": raw["role"], "content": raw["content"]})
        results = []
    return system, out


def anthropic_faults(messages: Sequence[Dict]) -> list[str]:
    """What Anthropic's API would refuse, in words."""
    found: list[str] = []
    waiting: set[str] = set()
    before = "assistant"
    for index, raw in enumerate(messages):
        if raw["role"] == before:
            found.append(f"{index}: {before} again")
        before = raw["role"]
        blocks = _blocks(raw)
        kinds = [block["type"] for block in blocks]
        if not blocks or any(not block["text"].strip() for block in blocks if block["type"] == "text"):
            found.append(f"{index}: empty")
        if kinds != sorted(kinds, key=lambda kind: kind != "tool_result"):
            found.append(f"{index}: results do not come first")
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if results != waiting:
            found.append(f"{index}: results of {sorted(results)} for {sorted(waiting)}")
        waiting = {block["id"] for block in blocks if block["type"] == "tool_use"}
    return [*found, *(["the end: open calls"] if waiting else [])]


def from_anthropic(system: str | None, messages: Sequence[Dict]) -> list[dict[str, Any]]:
    """As OpenAI has them, to be counted."""
    out: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for raw in messages:
        blocks = _blocks(raw)
        for block in blocks:
            if block["type"] == "tool_result":
                out.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]})
        text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
        calls = [
            {"id": block["id"], "function": {"name": block["name"], "arguments": json.dumps(block["input"])}}
            for block in blocks
            if block["type"] == "tool_use"
        ]
        if text or calls:
            out.append({"role": raw["role"], "content": text, **({"tool_calls": calls} if calls else {})})
    return out


def _blocks(raw: Dict) -> list[dict[str, Any]]:
    content: Any = raw["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
