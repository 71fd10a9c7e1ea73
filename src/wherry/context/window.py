"""The bounded view of a conversation that one agent's model sees."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from wherry.context.budget import DEFAULT_WINDOW, ContextBudget
from wherry.context.counting import TokenCounter
from wherry.context.door import Door
from wherry.context.facts import FactWriter, Summarize
from wherry.context.groups import Entry, Group, unfinished, well_formed
from wherry.context.ledger import Ledger
from wherry.context.squeeze import narrow, shrink_group
from wherry.context.summary import Summary
from wherry.context.table import budget_error
from wherry.context.turns import Turns
from wherry.errors import ConfigurationError, ContextBudgetError
from wherry.journal import EventType
from wherry.messages import JSON, Message, ToolSchema, Usage
from wherry.models.protocol import ModelProfile
from wherry.store.protocol import Artifacts

_SMALLEST_CAP = 32


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request that satisfies the equation."""

    messages: tuple[Message, ...]
    max_output: int
    """What the reply may take; to be sent to the server."""
    tokens: int
    """What messages and tool schemas take, as counted."""
    window: int
    keep: int
    """How many leading messages are byte for byte those of the previous request."""
    add: tuple[str, ...]
    """The digests of the messages after those."""


class ContextWindow:
    """Holds a run's messages and makes requests of them that fit.

    * `request` gives messages with tokens(messages) + tokens(tools) + max_output + margin <= window, or raises
      `ContextBudgetError`.
    * The system prompt, the task and the newest message are always in it: the last two whole, or as previews.
    * Every tool result follows its call, every call has its result; messages keep their order.
    * Between two compactions each request's messages begin with all of the one before.
    * Every message went to `keep` as it is stored here; the originals of previews are artifacts.
    * A step costs O(new messages) and one copy of a tuple; memory is O(window).

    Not safe for concurrent use: a run has one.
    """

    def __init__(
        self,
        *,
        profile: ModelProfile,
        budget: ContextBudget,
        artifacts: Artifacts | None,
        run_id: str,
        record: Callable[..., object],
        keep: Callable[[Message], str],
        system: Message,
        task: Message,
        history: Sequence[Message] = (),
        state: JSON = None,
        tools: Sequence[ToolSchema] = (),
        summarize: Summarize | None = None,
    ) -> None:
        """
        Args:
            profile: The model's.
            budget: What the user set.
            artifacts: Where oversized content goes; None: only previews of it stay.
            run_id: The run's.
            record: `record(type, **payload)`, as `RunJournal.record`.
            keep: Stores a message and gives its digest, as `RunJournal.keep`.
            system: The system prompt, for sizing the first messages; each request brings its own.
            task: The user's message that the run is about. Never folded.
            history: Messages from before the task, as they came; folded first.
            state: What `state()` of an earlier window of this conversation gave; comes before `history`.
            tools: The first request's, for sizing the first messages.
            summarize: Asks a model for a summary, and counts what that takes; None: the budget's `summarizer` is asked
                directly, and without one there are only extracts.

        Raises:
            ConfigurationError: The reserve leaves no room in the window.
        """
        self.counter = TokenCounter.for_profile(profile)
        self.window = budget.window or profile.window or DEFAULT_WINDOW
        self._budget = budget
        self._run_id = run_id
        self._record = record
        self._keep = keep
        if budget.window is None and profile.window is None:
            record(
                EventType.WARNING,
                message=f"the context length of {profile.name!r} is not known; {DEFAULT_WINDOW:,} tokens are assumed",
                hint="say it with ContextBudget(window=...) or the model's window=...",
            )
        self._reserve = budget.reserve_output or min(profile.max_output, max(self.window // 4, 1))
        if self._reserve >= self.window:
            raise ConfigurationError(
                f"reserve_output={self._reserve} leaves no room for input in the window of {self.window} tokens",
                hint="a quarter of the window is a usual reserve",
            )
        self._door = Door(
            self.counter, control_tokens=profile.control_tokens, artifacts=artifacts, run_id=run_id, record=record
        )
        self._ledger = Ledger(self.counter)
        self._system = self._entry(system, self.counter.message(system))
        self._tools: tuple[ToolSchema, ...] = tuple(tools)
        self._ledger.set_head(system=self._system.tokens, tools=self.counter.tools(self._tools))
        self._rewritten = True
        self._sent: tuple[Message, ...] = ()
        self._warned = False

        kept = self._entry(*self._door.admit(task, self._cap()))
        self._ledger.set_head(task=kept.tokens)
        self._turns = Turns(kept)
        self._summary = Summary(
            self.counter,
            task=kept.message.content,
            control_tokens=profile.control_tokens,
            writer=self._writer(summarize, profile, kept.message.content),
        )
        self._restore(state)
        for message in history:
            self._take(message, self._turns.older)
        self._finish(self._turns.older)
        self._turns.rewrite()

    def _writer(self, summarize: Summarize | None, profile: ModelProfile, task: str) -> FactWriter | None:
        other = self._budget.summarizer
        ask = other.complete if summarize is None and other is not None else summarize
        if ask is None or self._budget.compaction == "extract":
            return None
        if other is None:
            return FactWriter(ask, profile=profile, window=self.window, task=task)
        return FactWriter(ask, profile=other.profile, window=other.profile.window or DEFAULT_WINDOW, task=task)

    # -- what goes in --------------------------------------------------------------------------------------------------

    async def append(self, message: Message) -> Message:
        """Take a message in: escaped, measured, and offloaded where it is too large. Returns it as it is kept."""
        await self._door.ready(message, self._cap())
        self._take(message, self._turns.recent)
        return self._turns.messages[-1]

    def _take(self, message: Message, groups: deque[Group]) -> None:
        for part in well_formed(message, groups[-1] if groups else None):
            self._add(self._entry(*self._door.admit(part, self._cap())), groups)

    def _finish(self, groups: deque[Group]) -> None:
        """No request may hold a call without a result."""
        for message in unfinished(groups[-1] if groups else None):
            self._take(message, groups)

    def _add(self, entry: Entry, groups: deque[Group]) -> None:
        self._newest = entry.digest
        self._turns.add(entry, groups)
        self._ledger.add(entry)

    @property
    def newest(self) -> str:
        """The digest of the message that was appended last, as it is stored."""
        return self._newest

    def _entry(self, message: Message, tokens: int) -> Entry:
        return Entry(message, tokens, self._keep(message))

    def _cap(self) -> int:
        """Most tokens of one message: what was set, but no more than half of what the pinned parts leave."""
        room = self.window - self._reserve
        free = room - self.counter.margin(room) - self._ledger.pinned() - self._summary_cap(room)
        return max(_SMALLEST_CAP, min(self._budget.per_message or room // 4, free // 2))

    def report(self, usage: Usage) -> None:
        """Learn from what the server says that the last request took."""
        counted, cut = self._ledger.report(usage.input_tokens)
        if cut and not self._warned:
            self._warned = True
            self._record(
                EventType.WARNING,
                message=f"SilentTruncation: the server read {usage.input_tokens:,} tokens of a prompt of {counted:,}",
                hint="its context is smaller than was assumed: set its num_ctx or --ctx-size, or say what it has with "
                "ContextBudget(window=...)",
            )

    # -- what comes out ------------------------------------------------------------------------------------------------

    async def request(self, *, system: Message, tools: Sequence[ToolSchema], max_output: int | None = None) -> Fitted:
        """The messages of the next request.

        Args:
            system: The system prompt, now.
            tools: The schemas that the request will carry.
            max_output: Most tokens of the reply; None: the budget's reserve.

        Raises:
            ContextBudgetError: The parts that cannot be folded do not fit. No request may be made.
        """
        self._set_head(system, tuple(tools))
        self._finish(self._turns.recent)
        reserve = self._reserve if max_output is None else max_output
        room = self.window - reserve
        total = self._ledger.total()
        if total > self._budget.high_water * room or not self._fits(room):
            await self._compact(room)
            total = self._ledger.total()
            if not self._fits(room):
                raise self._error(reserve)
        messages = (self._system.message, *self._turns.messages)
        keep = self._unchanged(messages)
        add = self._turns.digests(keep - 1) if keep else (self._system.digest, *self._turns.digests(0))
        self._ledger.asked(total)
        self._sent, self._rewritten = messages, False
        return Fitted(messages, reserve, total, self.window, keep, add)

    def state(self) -> JSON:
        """What a later run needs to go on with this conversation: O(window)."""
        messages = [entry.message for entry in self._turns.entries() if entry is not self._turns.summary]
        return {
            "version": 1,
            "summary": self._summary.state(),
            "messages": [cast("JSON", message.to_json()) for message in messages],
        }

    def _restore(self, state: JSON) -> None:
        if not isinstance(state, dict):
            return
        saved = cast("dict[str, Any]", state)
        self._summary.restore(saved["summary"])
        self._write_summary(self._summary_cap(self.window - self._reserve))
        older = self._turns.older
        for raw in saved["messages"]:
            # Escaped and cut when it first came in, and previews are not to be escaped again.
            for part in well_formed(Message.from_json(raw), older[-1] if older else None):
                self._door.refer(part)
                self._add(self._entry(part, self.counter.message(part)), older)
        self._finish(older)

    def _set_head(self, system: Message, tools: tuple[ToolSchema, ...]) -> None:
        if system != self._system.message:
            self._system = self._entry(system, self.counter.message(system))
            self._ledger.set_head(system=self._system.tokens)
            self._rewritten = True
        if tools != self._tools:
            self._tools = tools
            self._ledger.set_head(tools=self.counter.tools(tools))

    def _unchanged(self, messages: tuple[Message, ...]) -> int:
        """How many leading messages are those of the request before."""
        if not self._rewritten:
            return len(self._sent)
        same = 0
        for now, before in zip(messages, self._sent, strict=False):
            if now is not before and now != before:
                break
            same += 1
        return same

    # -- compaction ----------------------------------------------------------------------------------------------------

    def _fits(self, room: int) -> bool:
        total = self._ledger.total()
        return total + self.counter.margin(total) <= room

    def _summary_cap(self, room: int) -> int:
        return max(48, min(1_024, room // 8))

    async def _compact(self, room: int) -> None:
        """Fold whole groups, oldest first, down to the low-water mark; then do whatever it takes to fit."""
        before = self._ledger.total()
        cap = self._summary_cap(room)
        summary = self._turns.summary
        rest = before + cap - (0 if summary is None else self._ledger.cost(summary))
        folded: list[Group] = []
        while rest > self._budget.low_water * room and self._turns.foldable:
            folded.append(self._turns.pop_oldest())
            rest -= sum(self._ledger.cost(entry) for entry in folded[-1].entries)
        if folded:
            # All at once: dropping looks through the whole window.
            self._ledger.drop(entry for group in folded for entry in group.entries)
            await self._fold(folded, cap, before)
        if not self._fits(room):
            await self._squeeze(room, cap)

    async def _fold(self, groups: list[Group], cap: int, before: int) -> None:
        """Put turns that were taken out into the summary."""
        how = await self._summary.fold(groups, cap)
        self._write_summary(cap)
        self._record(
            EventType.CONTEXT_COMPACTED,
            groups=len(groups),
            folded=[entry.digest for group in groups for entry in group.entries],
            tokens_before=before,
            tokens_after=self._ledger.total(),
            summary=None if self._turns.summary is None else self._turns.summary.digest,
            how=how,
        )

    def _write_summary(self, cap: int) -> None:
        if self._turns.summary is not None:
            self._ledger.drop([self._turns.summary])
            self._turns.summary = None
        message = self._summary.message(int(cap / self.counter.ratio))
        if message is not None:
            self._turns.summary = self._entry(message, self.counter.message(message))
            self._ledger.add(self._turns.summary)
        self._rewrite()

    def _rewrite(self) -> None:
        self._turns.rewrite()
        self._rewritten = True

    async def _squeeze(self, room: int, cap: int) -> None:
        """The newest turn alone is too large: previews of its messages, then only its last results; at last no summary
        and a shorter preview of the task.
        """
        if self._turns.recent:
            await self._squeeze_newest(self._turns.recent[-1], room, cap)
        if not self._fits(room) and self._turns.summary is not None:
            self._write_summary(0)
        if not self._fits(room):
            task = self._turns.task
            over = self._ledger.total() + self.counter.margin(room) - room
            message, tokens = self._door.shrink(task.message, max(task.tokens - over, _SMALLEST_CAP), admitted=True)
            if tokens < task.tokens:
                self._turns.task = self._entry(message, tokens)
                self._ledger.set_head(task=tokens)
                self._rewrite()

    async def _squeeze_newest(self, newest: Group, room: int, cap: int) -> None:
        for divisor in (1, 2, 4):
            if self._fits(room):
                return
            others = self._ledger.total() - sum(self._ledger.cost(entry) for entry in newest.entries)
            free = (room - self.counter.margin(room) - others) // divisor
            shrink_group(newest, free, door=self._door, ledger=self._ledger, keep=self._keep)
            self._rewrite()
        before = self._ledger.total()
        going: list[Group] = []
        while not self._fits(room) and len(newest.entries) > 2:
            going.append(narrow(newest, ledger=self._ledger, keep=self._keep))
        if going:
            await self._fold(going, cap, before)

    def sizes(self, max_output: int) -> dict[str, int]:
        """What each part of the next request takes, in tokens, with what is kept free: for a table."""
        ledger, scaled = self._ledger, self.counter.scaled
        newest = self._turns.recent[-1].entries if self._turns.recent else ()
        summary = 0 if self._turns.summary is None else ledger.cost(self._turns.summary)
        last = sum(ledger.cost(entry) for entry in newest)
        pinned = ledger.pinned()
        return {
            "system prompt": scaled(ledger.system),
            "tool schemas": scaled(ledger.tools),
            "task": scaled(ledger.task),
            "summary": summary,
            "older messages": max(0, ledger.total() - pinned - summary - last),
            "newest messages": last,
            "message markers": scaled(self.counter.request),
            "reserved output": max_output,
            "safety margin": self.counter.margin(ledger.total()),
        }

    def _error(self, reserve: int) -> ContextBudgetError:
        parts = {name: size for name, size in self.sizes(reserve).items() if name not in ("summary", "older messages")}
        return budget_error(parts, self.window, run_id=self._run_id)
