"""Reading what was too large: two tools that a client opted in to, and whose calls are answered here.

The client never sees them: neither in its tools nor in a reply. A reply that calls them alone is followed by another
question with their results; from one that calls the client's own tools as well, they are taken out, and the model may
call them again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from wherry.context.offload import references
from wherry.errors import LimitReached, ToolError
from wherry.guard.pieces import as_dict
from wherry.guard.proxy.attempt import Answer
from wherry.guard.proxy.bounding import Asked
from wherry.guard.proxy.exchange import Exchange
from wherry.guard.proxy.formats import Body, dicts_in
from wherry.guard.proxy.refusals import Refusal
from wherry.journal import EventType
from wherry.models.chat_completions import wire_tool
from wherry.models.tool_arguments import parse_arguments
from wherry.store import Store
from wherry.tools.builtin import read_artifact, search_artifact
from wherry.tools.builtin.excerpts import Excerpt
from wherry.tools.context import ToolContext, use_context

MOST_ROUNDS = 8
"""Questions in a row that are answered here; then the model's last reply is the client's, without its calls."""
_TOOLS = {tool.name: tool for tool in (read_artifact, search_artifact)}
_SHORTEST = 500
"""Characters that a result may have at least."""


def with_tools(asked: Asked) -> Asked:
    """The request with both tools offered.

    Raises:
        Refusal: The client has tools of these names, or speaks another interface than chat completions.
    """
    if asked.format.path != "chat/completions":
        raise Refusal(400, "x-wherry-artifacts is for /v1/chat/completions", code="artifacts_not_here")
    own = dicts_in(asked.body.get("tools"))
    taken = {str(as_dict(tool.get("function")).get("name")) for tool in own} & _TOOLS.keys()
    if taken:
        raise Refusal(400, f"x-wherry-artifacts brings {min(taken)!r}; the request has one too", code="name_taken")
    offered = [*own, *(wire_tool(tool.schema) for tool in _TOOLS.values())]
    return _rewritten(asked, {"tools": offered})


def calls_here(message: Mapping[str, Any]) -> tuple[list[Body], list[Body]]:
    """The calls of a reply that are answered here, and the others."""
    ours: list[Body] = []
    others: list[Body] = []
    for call in dicts_in(message.get("tool_calls")):
        (ours if as_dict(call.get("function")).get("name") in _TOOLS else others).append(call)
    return ours, others


async def read_and_answered(exchange: Exchange) -> Answer:
    """The answer of a model that may read what was too large: its first reply that does not.

    It comes whole; a client that wants a stream gets it as one, at its end.

    Raises:
        Refusal: As `Exchange.answer`, and `with_tools`.
    """
    work, day = exchange.work, exchange.day
    store = work.diary.store
    if store is None:
        raise Refusal(400, "x-wherry-artifacts needs a store, and this proxy has none", code="artifacts_not_here")
    streamed = exchange.asked.stream
    given = {*references(exchange.asked.raw.decode("utf-8", "replace"))}
    known: set[str] = set()
    asked = with_tools(exchange.asked)
    if streamed:
        body = {key: value for key, value in asked.body.items() if key not in ("stream", "stream_options")}
        asked = _rewritten(replace(asked, body=body, stream=False), {})
    round_ = 0
    while True:
        round_ += 1
        exchange.asked = asked
        answer = await exchange.answer()
        attempt = answer.attempt
        if attempt is None or answer.parsed is None:
            return answer
        # What the proxy put there itself: a client that writes down another's reference reads nothing by it.
        known |= {*references(json.dumps([*attempt.ready.messages]))} - given
        message = message_of(answer.parsed)
        ours, others = calls_here(message)
        if not ours:
            break
        if others or round_ > MOST_ROUNDS:
            attempt.settle(asked.format.whole(answer.parsed))
            answer.body = without(answer.parsed, message, others)
            answer.parsed = cast("Body", json.loads(answer.body))
            break
        attempt.settle(asked.format.whole(answer.parsed))
        try:
            for _ in ours:
                day.account.count_tool_call()
        except LimitReached as error:
            raise exchange.limited(error) from None
        conversation = attempt.conversation
        record = None if conversation is None else conversation.journal.record
        room = attempt.ready.window // 4
        asked = await answered(
            asked,
            message,
            ours,
            store=store,
            run_id=day.run_id,
            known=known,
            room=room,
            record=record,
            step=attempt.step,
        )
    if streamed:
        answer.body = _as_stream(answer.parsed or {})
        answer.headers = [
            *((name, value) for name, value in answer.headers if name.lower() != "content-type"),
            ("content-type", "text/event-stream"),
        ]
    return answer


async def answered(
    asked: Asked,
    message: Body,
    calls: Sequence[Body],
    *,
    store: Store,
    run_id: str,
    known: Collection[str],
    room: int,
    record: Callable[..., object] | None = None,
    step: int = 0,
) -> Asked:
    """The request that follows a reply of these calls: with the reply, and what the tools gave.

    Args:
        known: What may be read.
        room: Tokens that all results may take together.
    """
    each = max(room // max(len(calls), 1), _SHORTEST)
    results: list[Body] = []
    for call in calls:
        function = as_dict(call.get("function"))
        name, arguments = str(function.get("name")), parse_arguments(function.get("arguments"))
        started = time.monotonic()
        if record is not None:
            record(EventType.TOOL_CALLED, step=step, id=call.get("id"), name=name, arguments=arguments)
        if str(arguments.get("ref", "")).strip() in known:
            ok, text = await _result(name, arguments, store, run_id, each)
        else:
            ok, text = False, "error: there is no such artifact: copy the ref from a preview, exactly"
        if record is not None:
            seconds = round(time.monotonic() - started, 6)
            record(
                EventType.TOOL_RETURNED,
                step=step,
                id=call.get("id"),
                name=name,
                ok=ok,
                preview=text[:2_000],
                seconds=seconds,
            )
        results.append({"role": "tool", "tool_call_id": call.get("id"), "content": text})
    said = {"role": "assistant", "content": message.get("content"), "tool_calls": list(calls)}
    return _rewritten(asked, {"messages": [*asked.messages, said, *results]})


async def _result(name: str, arguments: Mapping[str, Any], store: Store, run_id: str, size: int) -> tuple[bool, str]:
    with use_context(ToolContext(run_id, "guard", None, store)):
        try:
            result = await _TOOLS[name].call(arguments)
        except ToolError as error:
            return False, f"error: {error.message}"[:size]
    if isinstance(result, Excerpt) and len(result) > size:
        return True, result.render(size)  # at most a token a character
    return True, str(result)[:size]


def without(answer: Body, message: Body, others: Sequence[Body]) -> bytes:
    """The reply with the client's own calls alone."""
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    if others:
        rest["tool_calls"] = list(others)
    elif not rest.get("content"):
        rest["content"] = "(the model went on reading stored contents, and was stopped)"
    choice = dicts_in(answer.get("choices"))[0]
    finish = choice.get("finish_reason") if others else "stop"
    return json.dumps({**answer, "choices": [{**choice, "message": rest, "finish_reason": finish}]}).encode()


def _as_stream(answer: Body) -> bytes:
    """A whole reply as the events of a stream."""
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    events: list[Body] = []
    for choice in dicts_in(answer.get("choices")):
        delta = dict(as_dict(choice.get("message")))
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(dicts_in(delta["tool_calls"]))]
        index = choice.get("index", 0)
        events.append({**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]})
        finish = choice.get("finish_reason")
        events.append({**head, "choices": [{"index": index, "delta": {}, "finish_reason": finish}]})
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def message_of(answer: Body | None) -> Body:
    """The first choice's message; nothing where there is none."""
    choices = dicts_in((answer or {}).get("choices"))
    return dict(as_dict(choices[0].get("message"))) if choices else {}


def _rewritten(asked: Asked, fields: Body) -> Asked:
    body = {**asked.body, **fields}
    raw = json.dumps(body).encode()
    messages, system = asked.format.conversation(body)
    return replace(asked, body=body, raw=raw, messages=messages, system=system, tools=asked.format.tools(body))
