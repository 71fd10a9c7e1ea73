"""Where a backend first fails: the first message alone, then with tools, then with the history added back.

Real requests to the real backend, with short replies. The recipe is the one that people follow by hand when a server
answers "OOM error during inference": take everything away, then put it back piece by piece.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import cast

from wherry.context.counting import TokenCounter
from wherry.errors import ConfigurationError, ModelError, WherryError
from wherry.journal import EventType, messages_of_request, read_events, schemas_of_request
from wherry.messages import Message, ToolSchema
from wherry.models import Failure, FailureKind, Model, ModelProfile, ModelRequest, Prepared
from wherry.store import Store

REPLY_TOKENS = 16
"""What every probe asks for at most: enough to see an answer, and cheap."""
SMALLEST_FILLER = 256
"""Tokens of the first probe with made-up history."""
SILENT_SHARE = 0.6
"""A server that reports less than this share of what smaller requests let expect has not read all of it."""
_TELLING = 100
"""Tokens from which the ratio of reported to counted ones says something."""
_FILLER = "The quick brown fox jumps over the lazy dog near the river bank. "


@dataclass(frozen=True, slots=True)
class Question:
    """What is tried: a request that went wrong, or a made-up one."""

    messages: Sequence[Message]
    tools: Sequence[ToolSchema] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """One request of the recipe, and what came of it."""

    what: str
    _: KW_ONLY
    messages: int
    tokens: int
    """As counted here, tool schemas included."""
    ok: bool
    seconds: float
    reported: int | None = None
    """Prompt tokens, as the server counted them."""
    kind: str = ""
    """The kind of the failure."""
    said: str = ""
    """What the server said of it."""
    limit: int | None = None
    """The context length that the server named."""

    truncated: bool = False
    """Whether the server read far less than it was sent, and did not say so."""


def question_of(store: Store, run_id: str) -> Question:
    """The last request of a run, or the one that failed last.

    Raises:
        RunNotFound: the store has no such run.
        ConfigurationError: it made no request.
    """
    made = failed = 0
    for event in read_events(store, run_id):
        if event.type is EventType.MODEL_REQUESTED:
            made += 1
        elif event.type is EventType.MODEL_FAILED:
            failed = made
    if not made:
        raise ConfigurationError(f"the run {run_id!r} made no request to a model", hint="give another run, or none")
    number = failed or made
    return Question(messages_of_request(store, run_id, number), schemas_of_request(store, run_id, number))


async def diagnose(model: Model, question: Question | None = None) -> AsyncIterator[Probe]:
    """Run the recipe; each probe as soon as it is over. Ends when it is known how much is too much.

    Args:
        model: the live backend.
        question: what went wrong; None tries made-up history up to the model's window.

    Raises:
        WherryError: the backend could not be got ready at all.
    """
    profile = await model.prepare() if isinstance(model, Prepared) else model.profile
    probing = _Probing(model, profile)
    if question is None:
        async for probe in probing.made_up():
            yield probe
        return
    system = [m for m in question.messages if m.role == "system"]
    rest = [m for m in question.messages if m.role != "system"]
    first = [next((m for m in rest if m.role == "user"), Message("user", "Say: ok"))]
    steps: list[tuple[str, Sequence[Message], Sequence[ToolSchema]]] = [
        ("one word alone", [Message("user", "Say: ok")], ()),
        ("the first user message alone", first, ()),
    ]
    if system:
        steps.append(("with the system prompt", [*system, *first], ()))
    if question.tools:
        steps.append((f"with {len(question.tools)} tools", [*system, *first], question.tools))
    for what, messages, tools in steps:
        probe = await probing.ask(what, messages, tools)
        yield probe
        if not probe.ok:
            return
    async for probe in probing.history(system, rest, question.tools):
        yield probe


def verdict(probes: Sequence[Probe], profile: ModelProfile) -> str:
    """What the probes say, and what to change."""
    if not probes:
        return "nothing was tried"
    bad = [probe for probe in probes if not probe.ok]
    if not bad:
        silent = next((probe for probe in probes if probe.truncated), None)
        if silent is None:
            return f"nothing failed, up to {max(probe.tokens for probe in probes):,} tokens"
        return (
            f"the server reads no more than {silent.reported:,} of {silent.tokens:,} tokens and does not say so: "
            f"give the model window={silent.reported}, or raise the server's own context (num_ctx, --ctx-size)"
        )
    worst = min(bad, key=lambda probe: probe.tokens)
    good = max((probe.tokens for probe in probes if probe.ok and probe.tokens < worst.tokens), default=0)
    where = f"it first fails {worst.what} ({worst.messages} messages, {worst.tokens:,} tokens): {worst.kind}"
    if good:
        where += f"; {good:,} tokens went through"
    return f"{where}. {_advice(worst, good, profile)}"


def _advice(worst: Probe, good: int, profile: ModelProfile) -> str:
    match worst.kind:
        case FailureKind.ContextOverflow:
            window = worst.limit or good
            configured = f", not the {profile.window:,} that were taken for it" if profile.window else ""
            return f"The window is {window:,} tokens{configured}: give the model window={window}"
        case FailureKind.OutOfMemory:
            return (
                f"The server runs out of memory: give the model window={max(good, 512)}, or the server a smaller "
                "context, fewer slots, a quantised KV cache; `wherry fit` says what fits"
            )
        case FailureKind.Authentication:
            return "The key is refused: check it, and the address that it is sent to"
        case FailureKind.QuotaExhausted:
            return "The account has nothing left: no request will go through, whatever its size"
        case FailureKind.RateLimited | FailureKind.Overloaded:
            return "Not the size but the pace: wait, and bound it with RateLimited(model, rpm=..., tpm=...)"
        case FailureKind.Timeout | FailureKind.ConnectionLost:
            return (
                "The server does not answer: is it up, is the address right? Short of memory it hangs, it does not fail"
            )
        case _ if "tools" in worst.what:
            return "The tools are what it cannot take: use a CodeAgent, or a server with tool calling switched on"
        case _:
            return f"It said: {worst.said}" if worst.said else "See the server's own log"


@dataclass(slots=True)
class _Probing:
    model: Model
    profile: ModelProfile
    ratio: float | None = None
    """The largest ratio so far of reported to counted tokens: estimates are far above the truth."""

    async def ask(self, what: str, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Probe:
        """Send one request and note what comes of it."""
        counter = TokenCounter.for_profile(self.profile)
        tokens = sum(counter.message(message) for message in messages) + counter.tools(tools)
        began = time.monotonic()
        request = ModelRequest(messages, tools, max_output=REPLY_TOKENS)
        try:
            reply = await self.model.complete(request)
        except WherryError as error:
            failure = Failure.of(error) if isinstance(error, ModelError) else None
            return Probe(
                what,
                messages=len(messages),
                tokens=tokens,
                ok=False,
                seconds=time.monotonic() - began,
                kind=str(failure.kind) if failure else type(error).__name__,
                said=error.message[:300],
                limit=failure.limit if failure else None,
            )
        reported = None if reply.usage is None or not reply.usage.input_tokens else reply.usage.input_tokens
        return Probe(
            what,
            messages=len(messages),
            tokens=tokens,
            ok=True,
            seconds=time.monotonic() - began,
            reported=reported,
            truncated=reported is not None and self._is_short(reported, tokens, exact=counter.exact),
        )

    def _is_short(self, reported: int, tokens: int, *, exact: bool) -> bool:
        ratio = self.ratio or (1.0 if exact else None)
        if ratio is not None and tokens >= _TELLING and reported < SILENT_SHARE * ratio * tokens:
            return True
        if tokens >= _TELLING:
            self.ratio = max(self.ratio or 0.0, reported / tokens)
        return False

    async def history(
        self, system: Sequence[Message], rest: Sequence[Message], tools: Sequence[ToolSchema]
    ) -> AsyncIterator[Probe]:
        """The history added back from its beginning, twice as much each time; then the edge between good and bad."""
        ends = [number for number in range(1, len(rest) + 1) if _is_whole(rest[:number])]
        good, bad, size = -1, len(ends), 1
        while good < len(ends) - 1 and bad == len(ends):
            place = min(size, len(ends)) - 1
            probe = await self._with(system, rest[: ends[place]], tools)
            yield probe
            if probe.ok:
                good, size = place, size * 2
            else:
                bad = place
        while bad - good > 1 and bad < len(ends):
            middle = (good + bad) // 2
            probe = await self._with(system, rest[: ends[middle]], tools)
            yield probe
            if probe.ok:
                good = middle
            else:
                bad = middle

    async def _with(self, system: Sequence[Message], rest: Sequence[Message], tools: Sequence[ToolSchema]) -> Probe:
        return await self.ask(f"with {len(rest)} messages of history", [*system, *rest], tools)

    async def made_up(self) -> AsyncIterator[Probe]:
        """Made-up history, twice as much each time, up to the window; then the edge."""
        probe = await self.ask("one word alone", [Message("user", "Say: ok")])
        yield probe
        if not probe.ok:
            return
        most = (self.profile.window or 8192) - 2 * REPLY_TOKENS
        good, bad, size = 0, 0, SMALLEST_FILLER
        while good < most and not bad:
            size = min(size, most)
            probe = await self._filled(size)
            yield probe
            if probe.ok:
                good, size = size, size * 2
            else:
                bad = size
        while bad and bad - good > max(64, bad // 32):
            middle = (good + bad) // 2
            probe = await self._filled(middle)
            yield probe
            if probe.ok:
                good = middle
            else:
                bad = middle

    async def _filled(self, tokens: int) -> Probe:
        counter = TokenCounter.for_profile(self.profile)
        one = counter.text(_FILLER * 20) / 20
        asking = "\nSay: ok"
        repeats = max(1, int((tokens - counter.message(Message("user", asking))) / one))
        while repeats > 1 and counter.message(Message("user", _FILLER * repeats + asking)) > tokens:
            repeats -= max(1, repeats // 100)
        return await self.ask(f"with {tokens:,} tokens of made-up text", [Message("user", _FILLER * repeats + asking)])


def _is_whole(messages: Sequence[Message]) -> bool:
    """Whether a history may end here: every call has its result, and the last word is not the model's."""
    open_calls: set[str] = set()
    for message in messages:
        open_calls |= {call.id for call in message.tool_calls}
        if message.role == "tool":
            open_calls.discard(cast("str", message.tool_call_id))
    return not open_calls and messages[-1].role != "assistant"
