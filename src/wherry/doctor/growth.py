"""What made the context of a run grow: the size of every request, part by part, read back from its journal."""

from __future__ import annotations

import re
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
from wherry.store import RunRow, Store

LARGEST = 10
"""How many messages are named."""
_SUMMARY = re.compile(r"<wherry:summary>.*?</wherry:summary>", re.DOTALL)
"""The block of a summary. Nothing else in a window can hold this mark: it is escaped in whatever comes in."""
_MOST_CHILDREN = 100_000
"""Runs below one that are named."""


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
    """All else, with what a request takes beyond its messages."""
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
    """The runs that it started, those that wrote its summaries as well: agent, id."""
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
    known = {child for _, child in reader.children}
    reader.children += [(row.agent, row.run_id) for row in _below(store, run_id) if row.run_id not in known]
    return reader.result()


def _below(store: Store, run_id: str) -> list[RunRow]:
    """The runs that a run started, oldest first."""
    return store.runs(parent=run_id, limit=_MOST_CHILDREN)[::-1]


@dataclass(slots=True)
class _Seen:
    """A message that was sent at least once, and what of it is the task and what a summary."""

    tokens: int
    message: Message
    call: int
    task: int = 0
    summary: int = 0


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
    requests: list[Request] = field(default_factory=list[Request])
    moves: list[Move] = field(default_factory=list[Move])
    warnings: list[str] = field(default_factory=list[str])
    children: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    limits: list[str] = field(default_factory=list[str])
    said: str = ""
    """The beginning of the task, as it was given."""
    task: str | None = None
    """The task as it was sent last."""

    def read(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case EventType.RUN_STARTED:
                self.agent, self.model, self.said = event.agent, str(payload["model"]), str(payload["task"]).strip()
                family = family_of(self.model)
                self.counter = TokenCounter.for_profile(ModelProfile(self.model, counter=family.counter))
            case EventType.MODEL_REQUESTED:
                self._requested(payload)
            case EventType.MODEL_REPLIED:
                self._answered(payload)
            case EventType.MODEL_FAILED:
                self._failed(payload)
            case EventType.CONTEXT_COMPACTED:
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
                self.seen[digest] = self._weighed(Message.decode(self.store.message(digest)), number)
        self._find_task(number)
        counted, tools = int(payload["tokens"]), min(int(payload.get("tools", 0)), int(payload["tokens"]))
        system, task, summary = self._pinned(counted - tools)
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

    def _weighed(self, message: Message, number: int) -> _Seen:
        """A message and its tokens; of a summary's block, those too."""
        if self.counter is None:
            return _Seen(0, message, number)
        seen = _Seen(self.counter.message(message), message, number)
        if message.role == "user" and (block := _SUMMARY.search(message.content)):
            alone = not message.content.replace(block[0], "").strip()
            seen.summary = seen.tokens if alone else min(seen.tokens, self.counter.text(block[0]))
        return seen

    def _find_task(self, number: int) -> None:
        """Find the message that holds the task: the one before, or what stands for it since the window was rewritten.

        In the first request it is the last message of a user: what stands before comes from the session. Later one that
        was not sent before and is not an answer to the run's own turns.
        """
        users = [digest for digest in self.digests if self.seen[digest].message.role == "user"]
        if self.counter is None or any(self.seen[digest].task for digest in users):
            return
        new = [digest for digest in users if self.seen[digest].call == number and self._own(digest)]
        order = users[::-1] if self.task is None else new
        for exact in (self.task or self.said, self.said):
            for digest in order:
                if found := _beginning_with(exact, self._own(digest)):
                    self._is_task(digest, found)
                    return
        if order and (own := self._own(order[0])):  # cut, or with something escaped in it
            first = self.seen[order[0]].message.content.lstrip().startswith(own[0])
            self._is_task(order[0], own[0] if first else own[-1])

    def _own(self, digest: str) -> list[str]:
        """What a user's message says besides a summary."""
        return [text for part in _SUMMARY.split(self.seen[digest].message.content) if (text := part.strip())]

    def _is_task(self, digest: str, text: str) -> None:
        seen, counter = self.seen[digest], self.counter
        if counter is not None:
            size = counter.message(replace(seen.message, content=text))
            alone = len(text) == len(seen.message.content.strip())
            seen.task = seen.tokens if alone else min(size, seen.tokens)
            left = seen.tokens - seen.task
            seen.summary = left if seen.summary and [text] == self._own(digest) else min(seen.summary, left)
        self.task = text

    def _pinned(self, room: int) -> tuple[int, int, int]:
        """The sizes of the system prompt, the task and the summary, which may be one message with the task.

        The run may have counted with another vocabulary than its model's name gives away, or have taken the server's
        word for what it sent before: then all messages are scaled alike.
        """
        room = max(0, room - (0 if self.counter is None else self.counter.request))
        whole = sum(self.seen[digest].tokens for digest in self.digests) or 1
        first = self.seen[self.digests[0]] if self.digests else None
        system = first.tokens if first is not None and first.message.role == "system" else 0
        task = sum(self.seen[digest].task for digest in self.digests)
        summary = sum(self.seen[digest].summary for digest in self.digests)
        return system * room // whole, task * room // whole, summary * room // whole

    def _answered(self, payload: Any) -> None:
        if not self.requests:
            return
        self._amend(failed="")  # what failed on the way, a layer of the model has mended
        if payload.get("estimated"):
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
        return Weight(seen.tokens, message.role, _source(seen), seen.call, head[:120])


def _beginning_with(task: str, texts: Sequence[str]) -> str:
    """The text that is the task, or begins with it; "" where none does. One that follows others is told by its blank
    line: neighbouring messages of a user are sent as one.
    """
    if not task:
        return ""
    for text in reversed(texts):
        if text.startswith(task):
            return text
        if (at := text.rfind(f"\n\n{task}")) >= 0:
            return text[at + 2 :]
    return ""


def _source(seen: _Seen) -> str:
    if seen.task and seen.task >= seen.summary:
        return "task"
    if seen.summary:
        return "summary"
    match seen.message.role:
        case "system":
            return "system prompt"
        case "assistant":
            return "the model"
        case "tool":
            return seen.message.name or "a tool"
        case _:
            return "output and notes"
