"""What made the context of a run grow: the size of every request, part by part, read back from its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from wherry.context.counting import TokenCounter
from wherry.errors import StoreError
from wherry.journal import Event, EventType, read_events
from wherry.messages import Message
from wherry.models import ModelProfile
from wherry.models.families import family_of
from wherry.store import Store

LARGEST = 10
"""How many messages are named."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One message, and what it takes."""

    tokens: int
    role: str
    source: str
    """What it came from: `task`, `web_search`, `the model`, `output of code`, `summary`."""
    call: int
    """The request that brought it, from 1."""
    head: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the model. All sizes in tokens."""

    number: int
    step: int
    _: KW_ONLY
    counted: int
    """As the bound counted it before it was sent."""
    system: int
    tools: int
    task: int
    summary: int
    turns: int
    reserved: int
    """What the reply might have taken."""
    window: int
    messages: int
    kept: int
    """Messages at the beginning that were the same in the request before."""
    reported: int | None = None
    """As the server counted it."""
    cached: int = 0
    failed: str = ""
    """The kind of failure, if the request failed."""


@dataclass(frozen=True, slots=True)
class Move:
    """A compaction or an offload: what made the context smaller."""

    call: int
    """The last request before it."""
    what: str
    tokens_before: int
    tokens_after: int
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Growth:
    """What a run's requests were made of."""

    run_id: str
    agent: str
    model: str
    status: str
    exact: bool
    """Whether messages were counted with the model's own vocabulary."""
    requests: Sequence[Request]
    largest: Sequence[Weight]
    sources: Sequence[tuple[str, int, int]]
    """What the messages came from: source, number of messages, tokens; the heaviest first."""
    moves: Sequence[Move]
    warnings: Sequence[str]
    children: Sequence[tuple[str, str]]
    """The runs that it started: agent, id."""
    limits: Sequence[str]


def growth(store: Store, run_id: str) -> Growth:
    """Read a run and weigh what its requests held.

    Raises:
        RunNotFound: the store has no such run.
        StoreError: the journal is damaged or was pruned.
    """
    reader = _Reader(store, run_id)
    for event in read_events(store, run_id):
        reader.read(event)
    return reader.result()


@dataclass(slots=True)
class _Seen:
    """A message that was sent at least once."""

    tokens: int
    message: Message
    call: int


@dataclass(slots=True)
class _Reader:
    store: Store
    run_id: str
    counter: TokenCounter | None = None
    agent: str = ""
    model: str = ""
    status: str = "no end"
    digests: list[str] = field(default_factory=list[str])
    seen: dict[str, _Seen] = field(default_factory=dict[str, _Seen])
    summaries: set[str] = field(default_factory=set[str])
    requests: list[Request] = field(default_factory=list[Request])
    moves: list[Move] = field(default_factory=list[Move])
    warnings: list[str] = field(default_factory=list[str])
    children: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    limits: list[str] = field(default_factory=list[str])
    task: str | None = None
    """The digest of the task."""

    def read(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case EventType.RUN_STARTED:
                self.agent, self.model = event.agent, str(payload["model"])
                family = family_of(self.model)
                self.counter = TokenCounter.for_profile(ModelProfile(self.model, counter=family.counter))
            case EventType.MODEL_REQUESTED:
                self._requested(payload)
            case EventType.MODEL_REPLIED:
                self._answered(payload)
            case EventType.MODEL_FAILED:
                self._failed(payload)
            case EventType.CONTEXT_COMPACTED:
                self.summaries.add(str(payload.get("summary") or ""))
                self._moved(payload, f"compaction of {payload.get('groups', '?')} turns ({payload.get('how', '?')})")
            case EventType.CONTEXT_OFFLOADED:
                what = (
                    f"{payload.get('media_type', 'a value')} of {int(payload.get('bytes') or 0):,} bytes kept outside"
                )
                self._moved(payload, what)
            case EventType.WARNING:
                self.warnings.append(str(payload["message"]))
            case EventType.LIMIT_REACHED:
                self.limits.append(f"{payload['limit']} {payload['value']}")
            case EventType.AGENT_CALLED:
                self.children.append((str(payload["name"]), str(payload["run_id"])))
            case EventType.RUN_FINISHED:
                self.status = str(payload["status"])
            case _:
                pass

    def result(self) -> Growth:
        weights = sorted((self._weight(name) for name in self.seen), key=lambda w: (-w.tokens, w.call))
        tokens: Counter[str] = Counter()
        messages: Counter[str] = Counter()
        for weight in weights:
            tokens[weight.source] += weight.tokens
            messages[weight.source] += 1
        return Growth(
            self.run_id,
            self.agent,
            self.model,
            self.status,
            self.counter is not None and self.counter.exact,
            self.requests,
            weights[:LARGEST],
            [(source, messages[source], amount) for source, amount in tokens.most_common()],
            self.moves,
            self.warnings,
            self.children,
            self.limits,
        )

    def _requested(self, payload: Any) -> None:  # Any: a payload is JSON
        number, keep = len(self.requests) + 1, int(payload["keep"])
        if not 0 <= keep <= len(self.digests):
            raise StoreError(f"request {number} of run {self.run_id!r} keeps {keep} of {len(self.digests)} messages")
        self.digests[keep:] = payload["add"]
        for digest in payload["add"]:
            if digest not in self.seen:
                message = Message.decode(self.store.message(digest))
                if self.task is None and message.role == "user":
                    self.task = digest
                count = 0 if self.counter is None else self.counter.message(message)
                self.seen[digest] = _Seen(count, message, number)
        counted, tools = int(payload["tokens"]), int(payload.get("tools", 0))
        whole = sum(self.seen[digest].tokens for digest in self.digests) or 1
        # The run may have counted with another vocabulary than its model's name gives away.
        scale = (counted - tools) / whole
        system, task, summary = self._pinned(scale)
        turns = counted - tools - system - task - summary
        self.requests.append(
            Request(
                number,
                int(payload["step"]),
                counted=counted,
                system=system,
                tools=tools,
                task=task,
                summary=summary,
                turns=turns,
                reserved=int(payload["max_output"]),
                window=int(payload["window"]),
                messages=len(self.digests),
                kept=keep,
            )
        )

    def _pinned(self, scale: float) -> tuple[int, int, int]:
        """The sizes of the system prompt, the task and the summary, which may be one message with the task."""
        system = task = summary = 0
        for place, digest in enumerate(self.digests):
            seen = self.seen[digest]
            if place == 0 and seen.message.role == "system":
                system = round(seen.tokens * scale)
            elif digest in self.summaries:
                summary += round(seen.tokens * scale)
            elif self._holds_task(digest):
                own = self.seen[self.task].tokens if self.task else 0
                task = round(own * scale)
                summary += round((seen.tokens - own) * scale)
        return system, task, summary

    def _holds_task(self, digest: str) -> bool:
        if self.task is None or digest == self.task:
            return digest == self.task
        message = self.seen[digest].message
        return message.role == "user" and message.content.startswith(self.seen[self.task].message.content)

    def _answered(self, payload: Any) -> None:
        if not self.requests or payload.get("estimated"):
            return
        usage = payload["usage"]
        self._amend(reported=int(usage["input_tokens"]), cached=int(usage["cached_tokens"]))

    def _failed(self, payload: Any) -> None:
        if self.requests:
            self._amend(failed=str(payload.get("kind") or payload.get("act") or "failed"))

    def _amend(self, **changes: Any) -> None:
        self.requests[-1] = replace(self.requests[-1], **changes)

    def _moved(self, payload: Any, what: str) -> None:
        before, after = int(payload.get("tokens_before") or 0), int(payload.get("tokens_after") or 0)
        self.moves.append(Move(len(self.requests), what, before, after, str(payload.get("ref") or "")))

    def _weight(self, digest: str) -> Weight:
        seen = self.seen[digest]
        message = seen.message
        head = " ".join(message.content[:400].split()) or ", ".join(call.name for call in message.tool_calls)
        return Weight(seen.tokens, message.role, self._source(digest, message), seen.call, head[:120])

    def _source(self, digest: str, message: Message) -> str:
        if digest == self.task:
            return "task"
        if digest in self.summaries or self._holds_task(digest):
            return "summary"
        match message.role:
            case "system":
                return "system prompt"
            case "assistant":
                return "the model"
            case "tool":
                return message.name or "a tool"
            case _:
                return "output and notes"
