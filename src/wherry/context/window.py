"""The bounded view of a conversation that one agent's model sees."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from wherry.context.budget import DEFAULT_WINDOW, ContextBudget
from wherry.context.counting import TokenCounter
from wherry.context.door import Door
from wherry.context.groups import Entry, Group, entries_of, unfinished, well_formed
from wherry.context.summary import Summary
from wherry.context.table import budget_error
from wherry.errors import ConfigurationError
from wherry.journal import EventType
from wherry.messages import JSON, Message, ToolSchema, Usage
from wherry.models.protocol import ModelProfile, ModelReply, ModelRequest
from wherry.store.protocol import Artifacts

Summarize = Callable[[ModelRequest], Awaitable[ModelReply]]

_SMALLEST_CAP = 32
_FAR_UNDER = 0.5
"""A report below this share of an exact count means that the server cut the prompt."""


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
            summarize: Asks a model for a summary; None: the extract alone.

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
            self.counter,
            control_tokens=profile.control_tokens,
            artifacts=artifacts,
            run_id=run_id,
            record=record,
        )
        self._system = self._entry(system, self.counter.message(system))
        self._tools: tuple[ToolSchema, ...] = tuple(tools)
        self._tools_tokens = self.counter.tools(self._tools)
        self._head_settled: int | None = None
        self._body_settled = 0
        self._body_raw = 0
        self._fresh: list[Entry] = []
        """In the window, but not yet part of a request."""
        self._asked: list[Entry] = []
        """Part of a request, but not yet settled by a report."""
        self._last_tokens: int | None = None
        self._last_reported: int | None = None
        self._rewritten = True
        self._sent: tuple[Message, ...] = ()
        self._warned_truncation = False

        self._task = self._entry(*self._door.admit(task, self._task_cap()))
        self._summary = Summary(self.counter, task=self._task.message.content, summarize=summarize, profile=profile)
        self._summary_entry: Entry | None = None
        self._older: deque[Group] = deque()
        self._recent: deque[Group] = deque()
        self._restore(state)
        for message in history:
            self._append(message, self._older)
        for message in unfinished(self._older[-1] if self._older else None):
            self._append(message, self._older)
        self._rest = self._in_order()

    # -- what goes in --------------------------------------------------------------------------------------------------

    async def append(self, message: Message) -> Message:
        """Take a message in: escaped, measured, and offloaded where it is too large. Returns it as it is kept."""
        first = len(self._rest)
        self._append(message, self._recent, self._rest)
        return self._rest[-1] if len(self._rest) > first else message

    def _append(self, message: Message, groups: deque[Group], flat: list[Message] | None = None) -> None:
        for part in well_formed(message, groups[-1] if groups else None):
            entry = self._entry(*self._door.admit(part, self._cap()))
            self._place(entry, groups)
            self._fresh.append(entry)
            self._body_raw += entry.tokens
            if flat is not None:
                flat.append(entry.message)

    @property
    def newest(self) -> str:
        """The digest of the message that was appended last, as it is stored."""
        return self._fresh[-1].digest if self._fresh else self._task.digest

    def _place(self, entry: Entry, groups: deque[Group]) -> None:
        if not groups or entry.message.role == "assistant":
            groups.append(Group())
        groups[-1].add(entry)

    def _entry(self, message: Message, tokens: int) -> Entry:
        return Entry(message, tokens, self._keep(message))

    def report(self, usage: Usage) -> None:
        """Learn from what the server says that the last request took."""
        reported = usage.input_tokens
        if self._last_tokens is None or reported <= 0:
            return
        counted, self._last_tokens = self._last_tokens, None
        shrunk = self._last_reported is not None and reported < self._last_reported
        if shrunk or (self.counter.exact and reported < counted * _FAR_UNDER):
            if not self._warned_truncation:
                self._warned_truncation = True
                self._record(
                    EventType.WARNING,
                    message=f"SilentTruncation: the server read {reported:,} tokens of a prompt that has {counted:,}",
                    hint="the server's context is smaller than was assumed: set its num_ctx or --ctx-size, or "
                    "ContextBudget(window=...)",
                )
            return
        self._last_reported = reported
        if self.counter.exact:
            self.counter.report(self._raw(), reported)
        else:
            self._settle(reported)

    def _settle(self, reported: int) -> None:
        """Take the server's count for what it had not counted before, in place of the estimate."""
        batch, self._asked = self._asked, []
        head = self._head_raw() if self._head_settled is None else 0
        raw = head + sum(entry.tokens for entry in batch)
        part = reported - self._body_settled - (self._head_settled or 0)
        if part <= raw // 16:
            return  # cannot be true: nothing takes so little
        self.counter.report(raw, part)
        # One report for several messages says nothing of each alone: a tenth is added, so that what remains when others
        # are folded away is not counted short.
        alone = len(batch) + (1 if head else 0) == 1
        share = part / raw if alone else part * 1.1 / raw
        if head:
            self._head_settled = math.ceil(head * share)
        for entry in batch:
            entry.settled = math.ceil(entry.tokens * share)
            self._body_raw -= entry.tokens
            self._body_settled += entry.settled

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
        reserve = self._reserve if max_output is None else max_output
        for message in unfinished(self._recent[-1] if self._recent else None):
            self._append(message, self._recent, self._rest)
        room = self.window - reserve
        total = self._total()
        if total > self._budget.high_water * room or total + self.counter.margin(total) > room:
            total = await self._compact(room, reserve)
        messages = (self._system.message, *self._rest)
        keep = self._kept(messages)
        self._asked.extend(self._fresh)
        self._fresh.clear()
        self._sent, self._rewritten, self._last_tokens = messages, False, total
        return Fitted(messages, reserve, total, self.window, keep, tuple(self._digests(keep)))

    def state(self) -> JSON:
        """What a later run needs to go on with this conversation: O(window)."""
        messages = [self._task, *entries_of(self._recent)]
        if self._older:
            messages = [*entries_of(self._older), *messages]
        return {
            "version": 1,
            "summary": self._summary.state(),
            "messages": [cast("JSON", entry.message.to_json()) for entry in messages],
        }

    def _restore(self, state: JSON) -> None:
        if not isinstance(state, dict):
            return
        saved = cast("dict[str, Any]", state)
        self._summary.restore(saved["summary"])
        self._write_summary(self._summary_cap(self.window - self._reserve))
        for raw in saved["messages"]:
            message = Message.from_json(raw)  # escaped and cut when it first came in
            for part in well_formed(message, self._older[-1] if self._older else None):
                entry = self._entry(part, self.counter.message(part))
                self._place(entry, self._older)
                self._fresh.append(entry)
                self._body_raw += entry.tokens

    def _set_head(self, system: Message, tools: tuple[ToolSchema, ...]) -> None:
        if system != self._system.message:
            self._system = self._entry(system, self.counter.message(system))
            self._head_settled = self._last_reported = None
            self._rewritten = True
        if tools != self._tools:
            self._tools, self._tools_tokens = tools, self.counter.tools(tools)
            self._head_settled = self._last_reported = None

    def _in_order(self) -> list[Message]:
        """All messages but the system prompt: the summary stands where the folded messages stood."""
        summary = [] if self._summary_entry is None else [self._summary_entry.message]
        older = [entry.message for entry in entries_of(self._older)]
        recent = [entry.message for entry in entries_of(self._recent)]
        task = self._task.message
        return [*summary, *older, task, *recent] if older else [task, *summary, *recent]

    def _entries(self) -> list[Entry]:
        summary = [] if self._summary_entry is None else [self._summary_entry]
        older, recent = entries_of(self._older), entries_of(self._recent)
        if self._older:
            return [self._system, *summary, *older, self._task, *recent]
        return [self._system, self._task, *summary, *recent]

    def _kept(self, messages: tuple[Message, ...]) -> int:
        if not self._rewritten:
            return len(self._sent)
        same = 0
        for now, before in zip(messages, self._sent, strict=False):
            if now is not before and now != before:
                break
            same += 1
        return same

    def _digests(self, start: int) -> list[str]:
        """Digests of the request's messages from `start`: between compactions, O(new messages)."""
        wanted = len(self._rest) + 1 - start
        digests: list[str] = []
        for group in reversed(self._recent):
            if len(digests) >= wanted:
                return digests[wanted - 1 :: -1] if wanted else []
            digests.extend(entry.digest for entry in reversed(group.entries))
        if len(digests) >= wanted:
            return digests[wanted - 1 :: -1] if wanted else []
        return [entry.digest for entry in self._entries()[start:]]

    # -- sums ----------------------------------------------------------------------------------------------------------

    def _head_raw(self) -> int:
        return self.counter.request + self._system.tokens + self._tools_tokens + self._task.tokens

    def _head(self) -> int:
        return self.counter.scaled(self._head_raw()) if self._head_settled is None else self._head_settled

    def _raw(self) -> int:
        return self._head_raw() + self._body_raw + self._body_settled

    def _total(self) -> int:
        return self._head() + self._body_settled + self.counter.scaled(self._body_raw)

    def _cost(self, entry: Entry) -> int:
        return self.counter.scaled(entry.tokens) if entry.settled is None else entry.settled

    def _forget(self, entry: Entry) -> None:
        """Take an entry that is in the body out of the sums."""
        if entry.settled is None:
            self._body_raw -= entry.tokens
        else:
            self._body_settled -= entry.settled

    def _summary_cap(self, room: int) -> int:
        return max(48, min(1_024, room // 8))

    def _cap(self) -> int:
        """Most tokens of one message: what was set, but no more than half of what the pinned parts leave."""
        room = self.window - self._reserve
        free = room - self.counter.margin(room) - self._head() - self._summary_cap(room)
        return max(_SMALLEST_CAP, min(self._budget.per_message or max(room // 4, 1), free // 2))

    def _task_cap(self) -> int:
        room = self.window - self._reserve
        pinned = self.counter.request + self._system.tokens + self._tools_tokens
        free = room - self.counter.margin(room) - self.counter.scaled(pinned) - self._summary_cap(room)
        return max(_SMALLEST_CAP, min(self._budget.per_message or max(room // 4, 1), free // 2))

    # -- compaction ----------------------------------------------------------------------------------------------------

    async def _compact(self, room: int, reserve: int) -> int:
        """Fold whole groups, oldest first, down to the low-water mark; then whatever it takes to fit."""
        before = self._total()
        cap = self._summary_cap(room)
        summary_now = 0 if self._summary_entry is None else self._cost(self._summary_entry)
        target = self._budget.low_water * room
        folded: list[Group] = []
        rest = before - summary_now
        while rest + cap > target and (self._older or len(self._recent) > 1):
            group = self._older.popleft() if self._older else self._recent.popleft()
            folded.append(group)
            rest -= sum(self._cost(entry) for entry in group.entries)
        if folded:
            await self._fold(folded, cap, before)
        if not self._fits(room):
            await self._squeeze(room, cap)
        total = self._total()
        if not self._fits(room):
            raise self._error(reserve)
        return total

    def _fits(self, room: int) -> bool:
        total = self._total()
        return total + self.counter.margin(total) <= room

    async def _fold(self, groups: list[Group], cap: int, before: int) -> None:
        self._drop(entries_of(groups))
        how = await self._summary.fold(groups, cap)
        self._write_summary(cap)
        self._rest = self._in_order()
        self._record(
            EventType.CONTEXT_COMPACTED,
            groups=len(groups),
            tokens_before=before,
            tokens_after=self._total(),
            summary=None if self._summary_entry is None else self._summary_entry.digest,
            how=how,
        )

    def _drop(self, entries: Any) -> None:  # Any: an iterator of entries
        gone: set[int] = set()
        for entry in entries:
            self._forget(entry)
            gone.add(id(entry))
        self._fresh = [entry for entry in self._fresh if id(entry) not in gone]
        self._asked = [entry for entry in self._asked if id(entry) not in gone]
        self._rewritten = True
        self._last_reported = None

    def _write_summary(self, cap: int) -> None:
        if self._summary_entry is not None:
            self._drop([self._summary_entry])
            self._summary_entry = None
        message = self._summary.message(max(int(cap / self.counter.ratio), 0))
        if message is not None:
            self._summary_entry = self._entry(message, self.counter.message(message))
            self._fresh.append(self._summary_entry)
            self._body_raw += self._summary_entry.tokens

    async def _squeeze(self, room: int, cap: int) -> None:
        """The newest turn alone is too large: previews in place of its messages, at last only its last results."""
        if self._recent:
            newest = self._recent[-1]
            for divisor in (1, 2, 4):
                if self._fits(room):
                    return
                self._shrink_group(newest, room, divisor)
            await self._narrow(room, cap)
        if not self._fits(room) and self._summary_entry is not None:
            self._write_summary(0)
            self._rest = self._in_order()
        if not self._fits(room):
            over = self._total() + self.counter.margin(room) - room
            self._shrink_task(max(self._task.tokens - over, _SMALLEST_CAP))

    def _shrink_group(self, group: Group, room: int, divisor: int) -> None:
        others = self._total() - sum(self._cost(entry) for entry in group.entries)
        free = room - self.counter.margin(room) - others
        # Small messages leave their share to the large ones.
        left, count = free, len(group.entries)
        shares: dict[int, int] = {}
        for entry in sorted(group.entries, key=self._cost):
            share = max(left // max(count, 1) // divisor, 1)
            shares[id(entry)] = share
            left -= min(self._cost(entry), share)
            count -= 1
        for entry in group.entries:
            if self._cost(entry) > shares[id(entry)]:
                self._replace(entry, shares[id(entry)])
        self._rest = self._in_order()

    def _replace(self, entry: Entry, cap: int) -> None:
        message, tokens = self._door.shrink(entry.message, cap, admitted=True)
        if tokens >= entry.tokens:
            return
        self._drop([entry])
        entry.message, entry.tokens, entry.digest, entry.settled = message, tokens, self._keep(message), None
        self._fresh.append(entry)
        self._body_raw += tokens

    async def _narrow(self, room: int, cap: int) -> None:
        """A turn with more calls than there is room for: the older calls are folded, each with its result.

        This is the one case in which a turn is divided, because a turn of hundreds of parallel calls fits no small
        window in any form. The assistant's message keeps the calls whose results stay.
        """
        newest = self._recent[-1]
        folded = Group()
        before = self._total()
        while not self._fits(room) and len(newest.entries) > 2:
            first = newest.entries[0]
            half = max((len(newest.entries) - 1) // 2, 1)
            going, staying = newest.entries[1 : 1 + half], newest.entries[1 + half :]
            self._drop(newest.entries)
            calls, gone_calls = _divide(first.message, going)
            folded.entries.extend([Entry(gone_calls, 0, first.digest), *going])
            message = Message(first.message.role, first.message.content, tool_calls=calls, name=first.message.name)
            narrowed = self._entry(message, self.counter.message(message))
            newest.entries[:] = [narrowed, *staying]
            for entry in newest.entries:
                entry.settled = None
                self._fresh.append(entry)
                self._body_raw += entry.tokens
        if folded.entries:
            await self._summary.fold([folded], cap)
            self._write_summary(cap)
            self._rest = self._in_order()
            self._record(
                EventType.CONTEXT_COMPACTED,
                groups=0,
                tokens_before=before,
                tokens_after=self._total(),
                summary=None if self._summary_entry is None else self._summary_entry.digest,
                how="narrowed",
            )

    def _shrink_task(self, cap: int) -> None:
        message, tokens = self._door.shrink(self._task.message, cap, admitted=True)
        if tokens < self._task.tokens:
            self._task = self._entry(message, tokens)
            self._head_settled = self._last_reported = None
            self._rewritten = True
            self._rest = self._in_order()

    def _error(self, reserve: int) -> Exception:
        total = self._total()
        newest = sum(self._cost(entry) for entry in entries_of([self._recent[-1]] if self._recent else []))
        scaled = self.counter.scaled
        parts = {
            "system prompt": scaled(self._system.tokens),
            "tool schemas": scaled(self._tools_tokens),
            "task": scaled(self._task.tokens),
            "newest messages": newest,
            "message markers": scaled(self.counter.request),
            "reserved output": reserve,
            "safety margin": self.counter.margin(total),
        }
        return budget_error(parts, self.window, run_id=self._run_id)


def _divide(message: Message, going: Sequence[Entry]) -> tuple[list[Any], Message]:
    """The calls that stay, and a message with those whose results are in `going`."""
    answered = [entry.message.tool_call_id for entry in going if entry.message.role == "tool"]
    stay: list[Any] = []
    gone: list[Any] = []
    for call in message.tool_calls:
        if call.id in answered:
            answered.remove(call.id)
            gone.append(call)
        else:
            stay.append(call)
    return stay, Message("assistant", tool_calls=gone)
