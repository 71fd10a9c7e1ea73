"""Where a backend first fails: the first message alone, then with tools, then with the history added back.

Real requests to the real backend, with short replies. The recipe is the one that people follow by hand when a server
answers "OOM error during inference": take everything away, then put it back piece by piece.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import cast

import anyio

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
PROBE_SECONDS = 60.0
"""How long one probe may take. A server that needs longer for a reply this short is of no use."""
SMALLEST_WINDOW = 512
"""Tokens: no agent works in fewer, so no smaller window is advised."""
_OF_SIZE = (FailureKind.ContextOverflow, FailureKind.OutOfMemory)
"""What a smaller request mends; only there the edge is looked for."""
_PERHAPS_ONCE = (FailureKind.ServerError, FailureKind.Timeout, FailureKind.ConnectionLost)
"""What may be over at the next attempt: believed when it happens twice."""
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
    made = failed = failed_before = 0
    for event in read_events(store, run_id):
        if event.type is EventType.MODEL_REQUESTED:
            made, failed_before = made + 1, failed
        elif event.type is EventType.MODEL_FAILED:
            failed = made
        elif event.type is EventType.MODEL_REPLIED:
            failed = failed_before  # what failed on the way to a reply did not fail in the end
    if not made:
        raise ConfigurationError(f"the run {run_id!r} made no request to a model", hint="give another run, or none")
    number = failed or made
    return Question(messages_of_request(store, run_id, number), schemas_of_request(store, run_id, number))


async def diagnose(
    model: Model, question: Question | None = None, *, deadline: float = PROBE_SECONDS
) -> AsyncIterator[Probe]:
    """Run the recipe; each probe as soon as it is over. Ends when it is known how much is too much.

    Args:
        model: the live backend.
        question: what went wrong; None tries made-up history up to the model's window.
        deadline: seconds that one attempt at a probe may take.

    Raises:
        WherryError: the backend could not be got ready at all.
    """
    profile = await model.prepare() if isinstance(model, Prepared) else model.profile
    probing = _Probing(model, profile, deadline)
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
    async for probe in probing.history(system, rest, question.tools, tried=first):
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
        window = silent.reported or 0
        advice = f"give the model window={window}, or " if window >= SMALLEST_WINDOW else ""
        return (
            f"the server reads no more than {window:,} of {silent.tokens:,} tokens and does not say so: "
            f"{advice}raise the server's own context (num_ctx, --ctx-size)"
        )
    worst = min(bad, key=lambda probe: probe.tokens)
    passed = (probe for probe in probes if probe.ok and not probe.truncated and probe.tokens < worst.tokens)
    good = max(passed, key=lambda probe: probe.tokens, default=None)
    where = f"it first fails {worst.what} ({worst.messages} messages, {worst.tokens:,} tokens): {worst.kind}"
    if good is not None:
        where += f"; {good.tokens:,} tokens went through"
        where += "" if good.reported is None else f", {good.reported:,} as the server counts"
    return f"{where}. {_advice(worst, _window(probes, good), profile)}"


def _window(probes: Sequence[Probe], good: Probe | None) -> int | None:
    """The window that what went through proves, in the server's own tokens; None when nothing went through."""
    if good is None:
        return None
    if good.reported is not None:
        return good.reported + REPLY_TOKENS
    # Counts are estimates from above where the vocabulary is not known: what other probes took says by how much.
    told = [probe.reported / probe.tokens for probe in probes if probe.reported and probe.tokens >= _TELLING]
    return good.tokens if not told else int(good.tokens * max(told))


def _advice(worst: Probe, proven: int | None, profile: ModelProfile) -> str:
    match worst.kind:
        case FailureKind.ContextOverflow:
            window = worst.limit or proven
            if window is None or window < SMALLEST_WINDOW:
                return f"{_too_small(window)}: raise the server's own context (num_ctx, --ctx-size)"
            configured = f", not the {profile.window:,} that were taken for it" if profile.window else ""
            return f"The window is {window:,} tokens{configured}: give the model window={window}"
        case FailureKind.OutOfMemory:
            helps = "a smaller context, fewer slots, a quantised KV cache; `wherry fit` says what fits"
            if proven is None or proven < SMALLEST_WINDOW:
                return f"The server runs out of memory. {_too_small(proven)}: give the server {helps}"
            return f"The server runs out of memory: give the model window={proven}, or the server {helps}"
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


def _too_small(window: int | None) -> str:
    if window is None:
        return "Nothing goes through: no size does"
    return f"No more than {window:,} tokens go through, too few for any agent: no size does"


@dataclass(slots=True)
class _Probing:
    model: Model
    profile: ModelProfile
    deadline: float
    ratio: float | None = None
    """The largest ratio so far of reported to counted tokens: estimates are far above the truth."""

    async def ask(self, what: str, messages: Sequence[Message], tools: Sequence[ToolSchema] = ()) -> Probe:
        """Send one request and note what comes of it; once more where that may have been chance."""
        probe = await self._once(what, messages, tools)
        return await self._once(what, messages, tools) if probe.kind in _PERHAPS_ONCE else probe

    async def _once(self, what: str, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> Probe:
        counter = TokenCounter.for_profile(self.profile)
        tokens = sum(counter.message(message) for message in messages) + counter.tools(tools)
        began = time.monotonic()
        request = ModelRequest(messages, tools, max_output=REPLY_TOKENS)
        try:
            with anyio.fail_after(self.deadline):
                reply = await self.model.complete(request)
        except TimeoutError:
            error = ModelError(f"no answer within {self.deadline:g} s", kind=FailureKind.Timeout)
            return _failed(what, messages, tokens, time.monotonic() - began, error)
        except WherryError as error:
            return _failed(what, messages, tokens, time.monotonic() - began, error)
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
        self,
        system: Sequence[Message],
        rest: Sequence[Message],
        tools: Sequence[ToolSchema],
        *,
        tried: Sequence[Message],
    ) -> AsyncIterator[Probe]:
        """The history added back from its beginning, twice as much each time; then the edge between good and bad.

        `tried` went through already, with the system prompt and the tools.
        """
        ends = [number for number in range(1, len(rest) + 1) if _is_whole(rest[:number])]
        first = 1 if ends and list(rest[: ends[0]]) == list(tried) else 0
        search = self._search(
            lambda turns: self._with(system, rest[: ends[turns - 1]], tools),
            good=first,
            size=first + 1,
            most=len(ends),
            near=lambda _: 1,
        )
        async for probe in search:
            yield probe

    async def _search(
        self,
        at: Callable[[int], Awaitable[Probe]],
        *,
        good: int,
        size: int,
        most: int,
        near: Callable[[int], int],
    ) -> AsyncIterator[Probe]:
        """Twice as much each time up to `most`; then the edge, until good and bad are no more than `near` apart."""
        bad: int | None = None
        while good < most and bad is None:
            size = min(size, most)
            probe = await at(size)
            yield probe
            if probe.ok:
                good, size = size, size * 2
            elif probe.kind in _OF_SIZE:
                bad = size
            else:
                return
        while bad is not None and bad - good > near(bad):
            middle = (good + bad) // 2
            probe = await at(middle)
            yield probe
            if probe.ok:
                good = middle
            elif probe.kind in _OF_SIZE:
                bad = middle
            else:
                return

    async def _with(self, system: Sequence[Message], rest: Sequence[Message], tools: Sequence[ToolSchema]) -> Probe:
        return await self.ask(f"with {len(rest)} messages of history", [*system, *rest], tools)

    async def made_up(self) -> AsyncIterator[Probe]:
        """Made-up history, twice as much each time, up to the window; then the edge."""
        probe = await self.ask("one word alone", [Message("user", "Say: ok")])
        yield probe
        if not probe.ok:
            return
        most = (self.profile.window or 8192) - 2 * REPLY_TOKENS
        search = self._search(
            self._filled, good=0, size=SMALLEST_FILLER, most=most, near=lambda bad: max(64, bad // 32)
        )
        async for probe in search:
            yield probe

    async def _filled(self, tokens: int) -> Probe:
        counter = TokenCounter.for_profile(self.profile)
        one = counter.text(_FILLER * 20) / 20
        asking = "\nSay: ok"
        repeats = max(1, int((tokens - counter.message(Message("user", asking))) / one))
        while repeats > 1 and counter.message(Message("user", _FILLER * repeats + asking)) > tokens:
            repeats -= max(1, repeats // 100)
        return await self.ask(f"with {tokens:,} tokens of made-up text", [Message("user", _FILLER * repeats + asking)])


def _failed(what: str, messages: Sequence[Message], tokens: int, seconds: float, error: WherryError) -> Probe:
    failure = Failure.of(error) if isinstance(error, ModelError) else None
    return Probe(
        what,
        messages=len(messages),
        tokens=tokens,
        ok=False,
        seconds=seconds,
        kind=str(failure.kind) if failure else type(error).__name__,
        said=error.message[:300],
        limit=failure.limit if failure else None,
    )


def _is_whole(messages: Sequence[Message]) -> bool:
    """Whether a history may end here: every call has its result, and the last word is not the model's."""
    open_calls: set[str] = set()
    for message in messages:
        open_calls |= {call.id for call in message.tool_calls}
        if message.role == "tool":
            open_calls.discard(cast("str", message.tool_call_id))
    return not open_calls and messages[-1].role != "assistant"
