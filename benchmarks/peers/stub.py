"""A model that always calls the tool, behind OpenAI's chat completions on loopback, which writes down what it is sent.

    python stub.py STEPS exact|light

Prints its port; answers STEPS requests that have tools with a call of `search`, the next with the end. On
`GET /report` it says, as JSON, what it was sent. `exact` measures every request; `light` only looks for its end, so
that 3,000 requests of megabytes take no time.

The text of a request is its tools and messages as JSON, in the order in which providers' prompt caches compare them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from dataclasses import asdict, dataclass, field

WINDOW = 8_192
_MOST_COUNTED = 400_000
"""Bytes beyond which a light stub does not count tokens."""


@dataclass
class Report:
    requests: int = 0
    without_tools: int = 0
    """Asked for something besides the conversation: summaries, mostly."""
    characters: int = 0
    tokens: int = 0
    last_characters: int = 0
    last_tokens: int = 0
    largest_tokens: int = 0
    over_window: int = 0
    """Requests of more tokens than the window has."""
    talk_tokens: int = 0
    """Tokens of the conversation's own requests."""
    cached: float = 0.0
    """Tokens that stand in a beginning that is byte for byte that of the request before."""
    quiet_tokens: int = 0
    quiet_cached: float = 0.0
    """The same where nothing was folded or dropped: the messages of the request before, and some more."""
    growing: int = 0
    """Requests that only add to the one before."""


@dataclass
class Stub:
    steps: int
    exact: bool
    report: Report = field(default_factory=Report)
    before: bytes = b""
    asked: int = 0

    def answer(self, body: bytes) -> dict[str, object]:
        request = json.loads(body) if self.exact or len(body) < _MOST_COUNTED else {"tools": b'"tools"' in body}
        tools = bool(request.get("tools"))
        self.asked += tools
        tokens = self._measure(request, conversation=tools) if len(request) > 1 else len(body) // 4
        if tools and self.asked <= self.steps:
            call = {"name": "search", "arguments": json.dumps({"query": f"ships of Hull, part {self.asked}"})}
            tool_calls = [{"id": f"call_{self.asked}", "type": "function", "function": call}]
            message: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": tool_calls}
            reason = "tool_calls"
        elif tools and b'"final_answer"' in body:
            call = {"name": "final_answer", "arguments": '{"answer": "1,204 ships"}'}
            tool_calls = [{"id": "call_end", "type": "function", "function": call}]
            message, reason = {"role": "assistant", "content": None, "tool_calls": tool_calls}, "tool_calls"
        else:
            text = '{"facts": [{"about": "Hull", "fact": "1,204 ships in 1790"}], "decisions": [], "open": []}'
            text = text if request.get("response_format") else "1,204 ships in 1790. TERMINATE" if tools else text * 4
            message, reason = {"role": "assistant", "content": text}, "stop"
        usage = {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return {
            "id": f"reply-{self.asked}", "object": "chat.completion", "created": 1_790_000_000, "model": "stub",
            "choices": [choice], "usage": usage,
        }  # fmt: skip

    def _measure(self, request: dict[str, object], *, conversation: bool) -> int:
        messages = request["messages"]
        parts = [request.get("tools") or [], *(messages if isinstance(messages, list) else [])]
        text = "\n".join(json.dumps(part, ensure_ascii=False) for part in parts)
        tokens = prompt_tokens(request)
        report = self.report
        report.requests += 1
        report.characters += len(text)
        report.tokens += tokens
        report.largest_tokens = max(report.largest_tokens, tokens)
        report.over_window += tokens > WINDOW
        if not conversation:
            report.without_tools += 1
            return tokens
        report.talk_tokens += tokens
        data = text.encode("utf-8", "surrogatepass")
        same = common(self.before, data)
        cached = tokens * same / len(data)
        report.cached += cached
        if self.before and same == len(self.before):
            report.growing += 1
            report.quiet_tokens += tokens
            report.quiet_cached += cached
        report.last_characters, report.last_tokens = len(text), tokens
        self.before = data
        return tokens


def common(one: bytes, other: bytes) -> int:
    """Length of the common beginning, by halving: comparing slices is as fast as it gets."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def prompt_tokens(request: dict[str, object]) -> int:
    """About what OpenAI counts: 4 a message and 8 a call besides their texts, and the tools as JSON."""
    messages = request["messages"]
    total = count(json.dumps(request["tools"])) if request.get("tools") else 0
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") or ""
        total += 4 + count(content if isinstance(content, str) else json.dumps(content))
        for call in message.get("tool_calls") or ():
            total += 8 + count(call["function"]["name"]) + count(call["function"]["arguments"])
    return total


def count(text: str) -> int:
    """Tokens by GPT-4o's vocabulary: one measure for all."""
    import quicktok

    encoding = quicktok.get_encoding("o200k_base")
    return sum(encoding.count(text[at : at + 250_000]) for at in range(0, len(text), 250_000))


async def serve(stub: Stub) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                body = await reader.readexactly(length)
                value = asdict(stub.report) if head.startswith(b"GET /report") else stub.answer(body)
                data = json.dumps(value).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
                )
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Stub(int(sys.argv[1]), sys.argv[2] == "exact")))
