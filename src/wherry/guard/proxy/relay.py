"""From a server's answer to the client's connection: byte for byte, at the pace of the slower of the two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wherry.errors import ModelError
from wherry.guard.proxy.attempt import Answer, Attempt
from wherry.guard.proxy.exchange import Exchange
from wherry.guard.proxy.formats import Said
from wherry.guard.proxy.refusals import Refusal, Shape
from wherry.guard.proxy.streams import Copy, UsageFilter
from wherry.models.failures import Failure, FailureKind, classify

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest, StreamResponse

_AT_ONCE = 65_536
"""Bytes that the system takes without anybody reading."""


class ClientGone(Exception):
    """Nobody reads the reply any more."""


async def relay(request: BaseRequest, exchange: Exchange, answer: Answer) -> StreamResponse:
    """Pass an answer on and write it down.

    Raises:
        ClientGone: Its client went away, or was too slow.
    """
    said = told(exchange, answer)
    if answer.response is not None and answer.attempt is not None:
        return await _streamed(request, exchange, answer, answer.attempt, said)
    if answer.attempt is not None:
        answer.attempt.settle(_whole(exchange, answer), text_bytes=len(answer.body))
    return await whole(
        request, answer.status, [*answer.headers, *said], answer.body, exchange.work.settings.reader_seconds
    )


def told(exchange: Exchange, answer: Answer) -> list[tuple[str, str]]:
    """What the proxy says of a request in headers of its own."""
    out: list[tuple[str, str]] = []
    attempt = answer.attempt
    if attempt is None:
        return out
    if attempt.conversation is not None:
        out.append(("x-wherry-run", attempt.conversation.journal.run_id))
    out.append(("x-wherry-tokens", f"{attempt.ready.tokens}+{attempt.ready.output}/{attempt.ready.window}"))
    if attempt.ready.changes:
        out.append(("x-wherry-changed", ", ".join(f"{kind}={many}" for kind, many in attempt.ready.changes.items())))
    if exchange.tried:
        out.append(("x-wherry-tried", str(len(exchange.tried))))
    return out


async def whole(
    request: BaseRequest, status: int, headers: Sequence[tuple[str, str]], body: bytes, seconds: float
) -> StreamResponse:
    """One answer in one piece."""
    from aiohttp.web import Response
    from multidict import CIMultiDict

    response = Response(status=status, headers=CIMultiDict(headers), body=body)
    if len(body) <= _AT_ONCE:
        return response  # written by whoever called; the connection's buffer takes it
    await _before_the_reader_is_gone(request, response.prepare(request), seconds)
    await _before_the_reader_is_gone(request, response.write_eof(), seconds)
    return response


async def refused(request: BaseRequest, refusal: Refusal, shape: Shape) -> StreamResponse:
    """A no."""
    from aiohttp.web import Response

    headers = {"content-type": "application/json", **refusal.headers}
    response = Response(status=refusal.status, headers=headers, body=refusal.body(shape))
    if refusal.close:
        response.force_close()
    return response


def _whole(exchange: Exchange, answer: Answer) -> Said:
    if answer.parsed is None:
        return Said()
    try:
        return exchange.asked.format.whole(answer.parsed)
    except ModelError:
        return Said()  # no reply that could be read; the client may think otherwise


async def _streamed(
    request: BaseRequest, exchange: Exchange, answer: Answer, attempt: Attempt, said: list[tuple[str, str]]
) -> StreamResponse:
    from aiohttp import ClientError
    from aiohttp.web import StreamResponse
    from multidict import CIMultiDict

    settings = exchange.work.settings
    source = answer.response
    if source is None:
        raise RuntimeError("no stream")
    copy = Copy()
    sift = UsageFilter() if attempt.ready.usage_asked else None
    out = StreamResponse(status=200, headers=CIMultiDict([*answer.headers, *said]))
    out.headers.setdefault("cache-control", "no-cache")
    try:
        await _before_the_reader_is_gone(request, out.prepare(request), settings.reader_seconds)
        chunk = answer.body
        while chunk:
            copy.add(chunk)
            passed = chunk if sift is None else sift.feed(chunk)
            if passed:
                await _before_the_reader_is_gone(request, out.write(passed), settings.reader_seconds)
            try:
                async with asyncio.timeout(settings.stall_seconds):
                    chunk = await source.content.readany()
            except (ClientError, TimeoutError, OSError) as error:
                failure = classify(error=error)
                attempt.fail(failure, "cut")
                await _broken(request, out, failure, exchange.asked.format.shape, settings.reader_seconds)
                return out
        if not copy.ended:
            failure = Failure(FailureKind.ConnectionLost, detail="the stream ended without its last event")
            attempt.fail(failure, "cut")
            await _broken(request, out, failure, exchange.asked.format.shape, settings.reader_seconds)
            return out
        if sift is not None and (rest := sift.finish()):
            await _before_the_reader_is_gone(request, out.write(rest), settings.reader_seconds)
        attempt.settle(exchange.asked.format.stream(copy.events()), text_bytes=copy.size)
        await _before_the_reader_is_gone(request, out.write_eof(), settings.reader_seconds)
        return out
    finally:
        # Closing the connection is what tells the server that nobody listens any more.
        if attempt.over and source.content.at_eof():
            source.release()
        else:
            source.close()
        attempt.fail(Failure(FailureKind.ConnectionLost, detail="the client went away"), "cut")


async def _broken(request: BaseRequest, out: StreamResponse, failure: Failure, shape: Shape, seconds: float) -> None:
    """Tell the client that its stream ended before its end: by an event, and by ending the connection."""
    refusal = Refusal(502, f"the upstream broke off: {failure.detail or failure.kind}", code="upstream_lost")
    event = b"event: error\n" if shape == "anthropic" else b""
    try:
        async with asyncio.timeout(seconds):
            await out.write(b"\n\n" + event + b"data: " + refusal.body(shape) + b"\n\n")
    except (ConnectionError, RuntimeError, TimeoutError):
        return
    if request.transport is not None:
        request.transport.close()  # no last chunk: whoever does not read events sees that something is missing


async def _before_the_reader_is_gone(request: BaseRequest, writing: object, seconds: float) -> None:
    """Write, unless the client takes nothing for so long.

    Raises:
        ClientGone: It has gone, or was cut off.
    """
    from collections.abc import Awaitable
    from typing import cast

    try:
        async with asyncio.timeout(seconds):
            await cast("Awaitable[object]", writing)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ClientGone("too slow") from None
    except ConnectionError:
        raise ClientGone("went away") from None


def as_json(value: Mapping[str, object]) -> bytes:
    """An answer of the proxy's own."""
    return json.dumps(value).encode()
