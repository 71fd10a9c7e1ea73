"""Anthropic's question how many tokens a request takes: the server's own answer, or what is counted here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial

from wherry.guard.proxy.anthropic_format import ANTHROPIC
from wherry.guard.proxy.attempt import Answer
from wherry.guard.proxy.bounding import LARGE, Asked, spliced
from wherry.guard.proxy.headers import back, onward
from wherry.guard.proxy.keys import Client
from wherry.guard.proxy.settings import ProxySettings
from wherry.guard.proxy.streams import first_events
from wherry.guard.proxy.upstream import CONNECT_SECONDS, Upstream

PATH = f"{ANTHROPIC.path}/count_tokens"
"""https://docs.anthropic.com/en/api/messages-count-tokens (November 2026)."""
_NOT_SERVED = frozenset({404, 405, 501})
_MOST_OF_AN_ANSWER = 1_000_000


async def counted(
    asked: Asked, upstreams: Sequence[Upstream], settings: ProxySettings, headers: Mapping[str, str], client: Client
) -> Answer:
    """What the client's request takes as it stands, before anything is made to fit.

    The first server that is there is asked; where it does not serve that, or none is there, it is counted here, on the
    high side where the model's tokenizer is not known. It costs nothing, and is written down nowhere.
    """
    order = sorted(upstreams, key=lambda one: one.resting)
    sent = [onward(headers, one, own_key=client.own_key, first=upstreams[0], shape=ANTHROPIC.shape) for one in order]
    for upstream, theirs in zip(order, sent, strict=True):
        answer = await _asked(upstream, asked, theirs)
        if answer is None:
            continue
        if answer.status in _NOT_SERVED:
            break
        return answer
    return await _here(order[0], asked, sent[0], strict=settings.strict)


async def _asked(upstream: Upstream, asked: Asked, headers: Mapping[str, str]) -> Answer | None:
    """What a server says; None where it says nothing."""
    from aiohttp import ClientError

    model = upstream.spec.model
    data = asked.raw if model is None else spliced(asked.raw, asked.body, {"model": model})
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            response = await upstream.post(PATH, data, headers)
            async with response:
                body = await first_events(response, CONNECT_SECONDS, _MOST_OF_AN_ANSWER, all_of_it=True)
    except (ClientError, TimeoutError, OSError, ValueError):
        return None
    if response.status == 200 and b"input_tokens" not in body:  # a page of something that is in between
        return None
    if response.status >= 500 and response.status not in _NOT_SERVED:
        return None
    return Answer(response.status, back(response.headers.items()), body)


async def _here(upstream: Upstream, asked: Asked, headers: Mapping[str, str], *, strict: bool) -> Answer:
    place = await upstream.place(upstream.spec.model or asked.model, headers)
    count = partial(
        place.fitter(place.window, strict=strict).count,
        asked.messages,
        tools=asked.tools,
        system=asked.system,
        style=ANTHROPIC.style,
    )
    async with place.lock:
        tokens = await asyncio.to_thread(count) if len(asked.raw) > LARGE else count()
    return Answer(200, [("content-type", "application/json")], json.dumps({"input_tokens": tokens}).encode())
