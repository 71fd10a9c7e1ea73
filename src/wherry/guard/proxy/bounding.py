"""From what a client sent to what its server gets: the same bytes where they fit, else a smaller conversation."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wherry.guard import Fitted
from wherry.guard.proxy.formats import Body, Format, wanted_output
from wherry.guard.proxy.upstream import Place, Upstream
from wherry.store.protocol import Artifacts

USUAL_OUTPUT, USUAL_THINKING = 4_096, 16_384
"""Tokens of a reply that nobody bounded: what hosted models of these kinds take at least."""
LEAST_OUTPUT = 16
LARGE = 400_000
"""Bytes from which a conversation is fitted in a thread, so that others' replies go on meanwhile."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A request as it is sent."""

    data: bytes
    messages: Sequence[Mapping[str, Any]]
    system: object
    tools: Sequence[Mapping[str, Any]]
    tokens: int
    """Of the prompt, as counted."""
    output: int
    """What each reply may take."""
    window: int
    changes: Mapping[str, int]
    """What was done to the conversation, by kind, with the number of messages."""
    changed: bool
    """Whether it is another conversation than the client's."""
    usage_asked: bool
    """Whether the stream tells its usage only because it was asked to here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A client's request, read."""

    format: Format
    body: Body
    raw: bytes
    messages: list[Body]
    system: object
    """The system prompt, where it stands apart from the messages."""
    tools: list[Body]
    stream: bool
    choices: int
    """How many replies are wanted."""

    @property
    def model(self) -> str:
        name = self.body.get("model")
        return name if isinstance(name, str) else ""


async def make_ready(
    asked: Asked,
    upstream: Upstream,
    place: Place,
    window: int,
    *,
    strict: bool,
    artifacts: Artifacts | None = None,
    run_id: str = "",
) -> Ready:
    """The request in a form that fits the window.

    Raises:
        ContextBudgetError: There is none.
    """
    _, wanted = wanted_output(asked.format, asked.body)
    usual = USUAL_THINKING if place.family.reasoning else USUAL_OUTPUT
    reserve = max(min(wanted or min(usual, window // 4), window // 2), 1)
    async with place.lock:
        fitter = place.fitter(window, strict=strict, artifacts=artifacts, run_id=run_id)
        fit = partial(
            fitter.fit,
            asked.messages,
            tools=asked.tools,
            system=asked.system,
            style=asked.format.style,
            max_output=reserve,
        )
        fitted = await asyncio.to_thread(fit) if len(asked.raw) > LARGE else fit()
        margin = fitter.counter.margin(fitted.tokens)
    output = max(min(wanted or usual, window - fitted.tokens - margin), min(reserve, LEAST_OUTPUT))
    return write(asked, upstream, fitted, output=output, window=window)


def write(asked: Asked, upstream: Upstream, fitted: Fitted, *, output: int, window: int) -> Ready:
    """The bytes of a request, as the client wrote them but for what has to change."""
    form, body = asked.format, asked.body
    fields: Body = {}
    if fitted.changed:
        fields.update(form.with_conversation(body, fitted.messages, fitted.system))
    name, wanted = wanted_output(form, body)
    if name is None:
        fields[form.output_names[-1 if upstream.hosted else 0]] = output
    elif wanted is None or wanted > output:
        fields[name] = output
    if upstream.spec.model is not None and body.get("model") != upstream.spec.model:
        fields["model"] = upstream.spec.model
    fields.update(form.defaults(body))
    usage_asked = False
    if asked.stream and upstream.tells_usage and (option := form.usage_option(body)):
        fields.update(option)
        usage_asked = True
    changes: Counter[str] = Counter()
    for change in fitted.changes:
        changes[change.kind] += change.messages
    return Ready(
        spliced(asked.raw, body, fields),
        fitted.messages,
        fitted.system,
        asked.tools,
        fitted.tokens,
        output,
        window,
        changes,
        fitted.changed,
        usage_asked,
    )


def spliced(raw: bytes, body: Body, fields: Body) -> bytes:
    """The body with these fields; what is only added leaves every other byte as it was."""
    if not fields:
        return raw
    if fields.keys() & body.keys():
        return _dumped({**body, **fields})
    start = raw.index(b"{") + 1  # it is an object, and not an empty one
    return b"%b%b,%b" % (raw[:start], _dumped(fields)[1:-1], raw[start:])


def _dumped(value: Body) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write and UTF-8 cannot
        return json.dumps(value, separators=(",", ":")).encode()
