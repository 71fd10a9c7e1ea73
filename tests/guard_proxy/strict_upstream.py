"""A model's server for tests: it counts what it is sent, and refuses what is too large as real servers do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import quicktok
from aiohttp import web

from wherry.guard.proxy import Proxy, ProxySettings, UpstreamSpec, running
from wherry.policy.recovery import Recovery
from wherry.store import Store

JSON = dict[str, Any]
count = cast("Callable[[str], int]", quicktok.get_encoding("o200k_base").count)  # pyright: ignore[reportUnknownMemberType]


@dataclass
class Sent:
    """One request that came."""

    path: str
    headers: dict[str, str]
    raw: bytes
    body: JSON
    tokens: int


@dataclass
class Plan:
    """What is answered instead of a reply."""

    status: int = 500
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    stream: Sequence[bytes] | None = None
    """Pieces of a stream, with status 200."""
    break_off: bool = False
    """After the pieces, the connection is reset."""
    hold: bool = False
    """Before the answer, until `release`; after the first piece of a stream."""


class StrictUpstream:
    """Answers chat completions, responses and messages; more than its window is an error."""

    def __init__(self, window: int = 2_048, *, names: Sequence[str] = ("gpt-4o-small",), tells: bool = True) -> None:
        self.window = window
        self.names = names
        self.tells = tells
        """Whether `/v1/models` says the window."""
        self.seen: list[Sent] = []
        self.overflows = 0
        self.orphans = 0
        self.plans: list[Plan] = []
        self.refuses_stream_options = False
        self.counts = False
        """Whether it serves `/v1/messages/count_tokens`."""
        self.reply: Callable[[JSON], JSON] | None = None
        """The message of a chat completion, for a request."""
        self.release = asyncio.Event()
        self.reached = asyncio.Event()
        self.gone = asyncio.Event()
        """Set when a client went away from an answer that is held."""
        self.url = ""
        self.under_way = 0
        self.most_under_way = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            if request.path == "/v1/models":
                more = {"max_model_len": self.window} if self.tells else {}
                data = [{"id": name, "object": "model", "owned_by": "vllm", **more} for name in self.names]
                return web.json_response({"object": "list", "data": data})
            if request.path == "/health":
                return web.json_response({"status": "ok"})
            return web.json_response({"error": "no such page"}, status=404)
        raw = await request.read()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._post(request, raw)
        except asyncio.CancelledError:
            self.gone.set()
            raise
        finally:
            self.under_way -= 1

    async def _post(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        body: JSON = json.loads(raw)
        tokens = _tokens(body)
        self.seen.append(Sent(request.path, {k.lower(): v for k, v in request.headers.items()}, raw, body, tokens))
        self.reached.set()
        if self.plans:
            return await self._planned(request, self.plans.pop(0))
        if request.path.endswith("/count_tokens"):
            return web.json_response(
                {"input_tokens": tokens} if self.counts else {}, status=200 if self.counts else 404
            )
        if self.refuses_stream_options and "stream_options" in body:
            return web.json_response({"error": {"message": "Unknown field: stream_options", "code": 400}}, status=400)
        output = body.get("max_tokens") or body.get("max_completion_tokens") or body.get("max_output_tokens") or 0
        if tokens + output > self.window:
            self.overflows += 1
            said = (
                f"This model's maximum context length is {self.window} tokens. However, you requested "
                f"{tokens + output} tokens ({tokens} in the messages, {output} in the completion). "
                "Please reduce the length of the messages or completion."
            )
            error = {"message": said, "type": "invalid_request_error", "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=400)
        if (orphan := _orphan(body)) is not None:
            self.orphans += 1
            return web.json_response({"error": {"message": orphan, "type": "invalid_request_error"}}, status=400)
        return await self._replied(request, body, tokens)

    async def _replied(self, request: web.BaseRequest, body: JSON, tokens: int) -> web.StreamResponse:
        if request.path.endswith("/messages"):
            whole: JSON = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude",
                "content": [{"type": "text", "text": "Yes, I see."}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": tokens, "output_tokens": 4},
            }
            return await _events(request, _anthropic_events(whole)) if body.get("stream") else web.json_response(whole)
        if request.path.endswith("/responses"):
            whole = {
                "id": "resp_1",
                "object": "response",
                "created_at": 1,
                "model": "m",
                "status": "completed",
                "parallel_tool_calls": True,
                "tool_choice": "auto",
                "tools": [],
                "output": [
                    {
                        "id": "msg_1",
                        "type": "message",
                        "role": "assistant",
                        "status": "completed",
                        "content": [{"type": "output_text", "text": "Yes, I see.", "annotations": []}],
                    }
                ],
                "usage": {
                    "input_tokens": tokens,
                    "output_tokens": 4,
                    "total_tokens": tokens + 4,
                    "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens_details": {"reasoning_tokens": 0},
                },
            }
            if body.get("stream"):
                done: JSON = {"type": "response.completed", "sequence_number": 1, "response": whole}
                return await _events(request, [f"event: response.completed\ndata: {json.dumps(done)}\n\n".encode()])
            return web.json_response(whole)
        message = self.reply(body) if self.reply is not None else {"role": "assistant", "content": "Yes, I see."}
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        usage = {"prompt_tokens": tokens, "completion_tokens": 4, "total_tokens": tokens + 4}
        head: JSON = {"id": "chatcmpl-1", "created": 1, "model": "m-2026"}
        if body.get("stream"):
            return await _events(request, chat_events(head, message, finish, usage, body))
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    async def _planned(self, request: web.BaseRequest, plan: Plan) -> web.StreamResponse:
        if plan.stream is None:
            if plan.hold:
                await self.release.wait()
            text = plan.body if isinstance(plan.body, str) else json.dumps(plan.body)
            headers = {"content-type": "application/json", **plan.headers}
            return web.Response(status=plan.status, body=text.encode(), headers=headers)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, piece in enumerate(plan.stream):
            await response.write(piece)
            if plan.hold and number == 0:
                await self.release.wait()
        if plan.break_off:
            assert request.transport is not None
            request.transport.abort()
        return response


def chat_events(head: JSON, message: JSON, finish: str, usage: JSON, body: JSON) -> list[bytes]:
    def event(delta: JSON, finish: str | None = None) -> bytes:
        chunk = {**head, "object": "chat.completion.chunk"}
        chunk["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return f"data: {json.dumps(chunk)}\n\n".encode()

    out = [event({"role": "assistant", "content": ""})]
    out += [event({"content": word}) for word in str(message.get("content") or "").split(" ") if word]
    if message.get("tool_calls"):
        calls = [{"index": index, **call} for index, call in enumerate(message["tool_calls"])]
        out.append(event({"tool_calls": calls}))
    out.append(event({}, finish))
    if cast("JSON", body.get("stream_options") or {}).get("include_usage"):
        last: JSON = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        out.append(f"data: {json.dumps(last)}\n\n".encode())
    return [*out, b"data: [DONE]\n\n"]


def _anthropic_events(whole: JSON) -> list[bytes]:
    block = whole["content"][0]
    events: list[JSON] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": block["text"]}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


async def _events(request: web.BaseRequest, events: Sequence[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
    return response


def _tokens(body: JSON) -> int:
    """All texts of the request, and some tokens a message, as a chat template would put around it."""
    messages: Any = body.get("messages") or body.get("input") or []
    if isinstance(messages, str):
        messages = [messages]
    texts = [json.dumps(body[name]) for name in ("tools", "system", "instructions") if body.get(name)]
    return 3 + sum(count(text) for text in texts) + sum(4 + sum(count(t) for t in _texts(m)) for m in messages)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in cast("list[Any]", value) for text in _texts(item)]
    if isinstance(value, dict):
        skipped = ("role", "type", "id", "tool_call_id", "call_id", "tool_use_id")
        return [text for key, item in cast("JSON", value).items() if key not in skipped for text in _texts(item)]
    return []


def _orphan(body: JSON) -> str | None:
    """What OpenAI says of a conversation whose calls and results do not match."""
    open_calls: set[str] = set()
    for message in cast("list[JSON]", body.get("messages") or []):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
        open_calls = {call["id"] for call in cast("list[JSON]", message.get("tool_calls") or [])}
    return "tool_calls without a result at the end" if open_calls else None


@asynccontextmanager
async def serving(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncGenerator[str]:
    """The address of a server with this handler."""
    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


QUICK = Recovery(retries=2, waits=2, first_wait=0.01, longest_wait=0.02, patience=5.0, health=1.0, first_contact=0.2)


OPENED: list[Any] = []
"""SDK clients, which are closed before the proxy is."""


@asynccontextmanager
async def guarded(
    *upstreams: StrictUpstream, store: Store | None = None, specs: Sequence[UpstreamSpec] = (), **settings: Any
) -> AsyncGenerator[Proxy]:
    """A proxy before these servers."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        for upstream in upstreams:
            upstream.url = await stack.enter_async_context(serving(upstream.handle))
        made = tuple(specs) or tuple(UpstreamSpec(upstream.url) for upstream in upstreams)
        given: JSON = {"port": 0, "grace_seconds": 2.0, **settings}
        told = ProxySettings(made, **given)
        yield await stack.enter_async_context(running(told, store=store, recovery=QUICK))
        while OPENED:
            await OPENED.pop().close()
