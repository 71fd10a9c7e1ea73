"""The bounded view of a conversation that one agent's model sees."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from wherry.context.budget import DEFAULT_WINDOW, ContextBudget
from wherry.context.cache_watch import CacheWatch
from wherry.context.compaction import SMALLEST_CAP, Compaction, summary_cap
from wherry.context.counting import TokenCounter
from wherry.context.door import Door
from wherry.context.escape import escape
from wherry.context.facts import FactWriter, Summarize
from wherry.context.fitted import Fitted
from wherry.context.groups import Entry, Group, unfinished, well_formed
from wherry.context.ledger import Ledger
from wherry.context.rendering import in_words
from wherry.context.shortening import sized
from wherry.context.snapshots import Left, snapshot_of
from wherry.context.summary import Summary
from wherry.context.table import budget_error
from wherry.context.turns import Turns
from wherry.errors import ConfigurationError, ContextBudgetError
from wherry.journal import EventType
from wherry.messages import JSON, Message, ToolSchema, Usage, canonical
from wherry.models.protocol import ModelProfile, Prepared
from wherry.store.protocol import Artifacts

_ROOM_FOR_WORDS = 24
"""Tokens that a call or its result may take more in words than as its server counted it, besides its name."""
_ANY_SIZE = 1 << 30
_TRIES = 3
"""Folding takes out calls too, and with them what they would take in words."""


class ContextWindow:
    """Holds a run's messages and makes requests of them that fit.

    * `request` gives messages with tokens(messages) + tokens(tools) + max_output + margin <= window, or raises
      `ContextBudgetError`.
    * The system prompt, the task and the newest message are always in it: the last two whole, or as previews.
    * Every tool result follows its call, every call has its result; messages keep their order.
    * Between two compactions each request's messages begin with all of the one before.
    * No two user's messages stand in a row, and a request without tools has calls and results in words: chat templates
      and providers refuse the one or the other.
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
        left: Left | None = None,
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
            left: Where the same run was interrupted; `task`, `history` and `state` are in it already.

        Raises:
            ConfigurationError: The reserve leaves no room in the window.
        """
        self.counter = TokenCounter.for_profile(profile)
        known = budget.window or max(profile.window or 0, 0)
        self.window = known or DEFAULT_WINDOW
        """Context length in tokens of one request, prompt and output together."""
        self._profile = profile
        self._budget = budget
        self._run_id = run_id
        self._record = record
        self._keep = keep
        self._warned: set[str] = set()
        if not known:
            self._warn(
                "unknown",
                f"the context length of {profile.name!r} is not known; {DEFAULT_WINDOW:,} tokens are assumed",
                "say it with ContextBudget(window=...) or the model's window=...",
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
        self._cache = CacheWatch()
        self._system = self._entry(system, self.counter.message(system))
        self._system_sent: Message | None = None
        self._length = 0
        """Messages of the request before."""
        self._tools: tuple[ToolSchema, ...] = tuple(tools)
        self._ledger.set_head(system=self._system.tokens, tools=self.counter.tools(self._tools))
        self._told: list[str] = []
        """Digests of what was appended since the last request."""
        self._shown = -1
        """How often the turns had been rewritten when a request last said what they hold."""
        self._open(task, history, state, summarize, left)

    def _open(
        self,
        task: Message,
        history: Sequence[Message],
        state: JSON,
        summarize: Summarize | None,
        left: Left | None,
    ) -> None:
        """Take in what there is before the first request."""
        known: Mapping[str, Message] = {} if left is None else left.read(left.digests)
        if left is None:
            kept = self._entry(*self._door.admit(sized(task), self._cap()))
        else:  # its own tags are not to be escaped
            task = known[left.snapshot["task"]]
            kept = self._entry(task, self.counter.message(task))
        self._ledger.set_head(task=kept.tokens)
        self._turns = Turns(kept, keep=self._keep)
        summary = Summary(
            self.counter,
            task=kept.message.content,
            control_tokens=self._profile.control_tokens,
            writer=self._writer(summarize, kept.message.content),
        )
        self._summary = summary
        self._compaction = Compaction(
            turns=self._turns,
            ledger=self._ledger,
            summary=summary,
            door=self._door,
            budget=self._budget,
            keep=self._keep,
            record=self._record,
        )
        if left is not None:
            self._go_on(left, known)
            return
        self._restore(state)
        for message in history:
            self._take(message, self._turns.older, self._cap())
        self._finish(self._turns.older)
        self._turns.rewrite()

    def _writer(self, summarize: Summarize | None, task: str) -> FactWriter | None:
        other = self._budget.summarizer
        ask = other.complete if summarize is None and other is not None else summarize
        if ask is None or self._budget.compaction == "extract":
            return None

        async def ready() -> tuple[ModelProfile, int]:
            if other is None:
                return self._profile, self.window
            profile = await other.prepare() if isinstance(other, Prepared) else other.profile
            return profile, profile.window or DEFAULT_WINDOW

        return FactWriter(ask, ready=ready, task=task)

    # -- what goes in --------------------------------------------------------------------------------------------------

    async def append(self, message: Message, *, whole: bool = False) -> Message:
        """Take a message in: escaped, measured, and offloaded where it is too large. Returns it as it is kept.

        Args:
            message: What.
            whole: Nothing is likely to be asked after it, so that it is not worth a preview.
        """
        cap = _ANY_SIZE if whole else self._cap()
        await self._door.ready(message, cap)
        return self._take(message, self._turns.recent, cap)

    def _take(self, message: Message, groups: deque[Group], cap: int) -> Message:
        for part in well_formed(sized(message), groups[-1] if groups else None):
            message, tokens = self._door.admit(part, cap)
            self._add(self._entry(message, tokens), groups)
            if groups is self._turns.recent:
                self._told.append(self._newest)
        return message

    @property
    def newest_turn(self) -> Group | None:
        """The turn that what is appended next belongs to, unless it begins one."""
        return self._turns.recent[-1] if self._turns.recent else None

    @property
    def turns(self) -> tuple[Group, ...]:
        """The run's own turns that are not folded yet."""
        return tuple(self._turns.recent)

    def amend(self, turn: Group, messages: Sequence[Message]) -> None:
        """Let one of `turns` say something else; without messages it is taken out.

        The next request does not begin with the one before. What was said first stays in the journal.

        Args:
            turn: Which.
            messages: What it holds from now on. Those that it held already stay as they are, and so does the content of
                those; results follow their calls.
        """
        held = {id(entry.message): entry for entry in turn.entries}
        contents = {id(entry.message.content) for entry in turn.entries}
        new: list[Entry] = []
        for message in messages:
            if id(message) in held:
                new.append(held.pop(id(message)))
            elif id(message.content) in contents and not message.images:  # it came through the door before
                new.append(self._entry(message, self.counter.message(message)))
            else:
                new.append(self._entry(*self._door.admit(sized(message), self._cap())))
        kept = {id(entry) for entry in turn.entries} - {id(entry) for entry in held.values()}
        self._ledger.drop(held.values())
        for entry in new:
            if id(entry) not in kept:
                self._ledger.add(entry)
        self._turns.amend(turn, new)

    def _finish(self, groups: deque[Group]) -> None:
        """No request may hold a call without a result."""
        for message in unfinished(groups[-1] if groups else None):
            self._take(message, groups, self._cap())

    def _add(self, entry: Entry, groups: deque[Group], settled: int | None = None) -> None:
        self._newest = entry.digest
        self._turns.add(entry, groups)
        if settled is None:
            self._ledger.add(entry)
        else:
            self._ledger.add_settled(entry, settled)

    @property
    def task(self) -> Message:
        """The task as it is kept."""
        return self._turns.task.message

    @property
    def newest(self) -> str:
        """The digest of the message that was appended last, as it is stored."""
        return self._newest

    def _entry(self, message: Message, tokens: int) -> Entry:
        return Entry(message, tokens, self._keep(message))

    def _cap(self) -> int:
        """Most tokens of one message: what was set, but no more than half of what the pinned parts leave."""
        room, pinned = self.window - self._reserve, self._ledger.pinned()
        free = room - self.counter.margin(room) - pinned - summary_cap(room, pinned)
        return max(SMALLEST_CAP, min(self._budget.per_message or room // 4, free // 2))

    def report(self, usage: Usage) -> None:
        """Learn from what the server says that the last request took."""
        counted, verdict = self._ledger.report(usage.input_tokens, most=self.window - self._reserve)
        if verdict == "cut":
            self._warn(
                verdict,
                f"SilentTruncation: the server read {usage.input_tokens:,} tokens of a prompt of {counted:,}",
                "its context is smaller than was assumed: set its num_ctx or --ctx-size, or say what it has with "
                "ContextBudget(window=...)",
            )
        elif verdict in ("nonsense", "low"):
            self._warn(
                verdict,
                f"the server reports {usage.input_tokens:,} tokens for a prompt of about {counted:,}: not believed",
                "what the run is said to have used is as wrong as these reports",
            )
        elif verdict == "fine" and self._cache.collapsed(usage):
            self._warn(
                "cache",
                f"the prompt cache is used no more: {usage.cached_tokens:,} of {usage.input_tokens:,} tokens came "
                "from it, though the request only grew",
                "other requests may have taken its place (more slots, or a cache key of the provider's, keep it), or "
                "requests go to another machine now",
            )

    def _warn(self, kind: str, message: str, hint: str) -> None:
        """Once a run and kind: what is so at one step is so at the next."""
        if kind not in self._warned:
            self._warned.add(kind)
            self._record(EventType.WARNING, message=message, hint=hint)

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
        if not await self._keep_within(reserve, tools):
            raise self._error(reserve, self._words(tools))
        total = self._ledger.total()
        told = tuple(self._told)
        self._told.clear()
        snapshot = None
        if self._turns.rewrites != self._shown:
            snapshot = snapshot_of(self._turns, self._summary, self._ledger, self._profile.name)
        flat, keep = self._turns.flat(tools=bool(tools))
        self._shown = self._turns.rewrites  # what `flat` makes anew holds the same
        if system is not self._system_sent and system != self._system_sent:
            grown, add = 0, (self._system.digest, *self._turns.digests(0))
        else:
            grown, add = keep + 1, self._turns.digests(keep)
        self._cache.asked(grew=grown == self._length)
        self._length, self._system_sent = len(flat) + 1, system
        self._ledger.asked(total)
        schemas = self.counter.scaled(self._ledger.tools)
        return Fitted((self._system.message, *flat), reserve, total, self.window, grown, add, schemas, told, snapshot)

    def not_sent(self) -> None:
        """Nothing was made of the last request, and nothing says what was in it: the next one says all that it has."""
        self._shown, self._system_sent = -1, None

    async def _keep_within(self, reserve: int, tools: Sequence[ToolSchema]) -> bool:
        room = self.window - reserve
        for _ in range(_TRIES):
            words = self._words(tools)
            if await self._compaction.keep_within(room - words):
                return True
            if self._words(tools) == words:
                break
        # The vocabulary's own count stands for itself: what reports have added to it is not to end a run.
        if not self.counter.exact or self.counter.ratio == 1.0:
            return False
        self.counter.forget()
        return await self._compaction.keep_within(room - self._words(tools))

    def _words(self, tools: Sequence[ToolSchema]) -> int:
        """What calls and results take more in words, as a request without tools has them."""
        if tools or not self._turns.has_calls:
            return 0
        return sum(self._more_in_words(entry) for entry in self._turns.entries())

    def _more_in_words(self, entry: Entry) -> int:
        message = entry.message
        if not message.tool_calls and message.role != "tool":
            return 0
        if entry.settled is not None:
            # The server's count says nothing of what the words around it take.
            names = [call.name for call in message.tool_calls] or [message.name or ""]
            return sum(_ROOM_FOR_WORDS + self.counter.text(name) for name in names)
        if entry.worded is None or entry.worded[0] is not message:
            entry.worded = message, self.counter.message(in_words(message))
        return max(0, self.counter.scaled(entry.worded[1]) - self._ledger.cost(entry))

    def state(self) -> JSON:
        """What a later run needs to go on with this conversation: O(window)."""
        messages = [entry.message for entry in self._turns.entries() if entry is not self._turns.summary]
        return {
            "version": 1,
            "summary": self._summary.state(),
            "messages": [cast("JSON", message.to_json()) for message in messages],
        }

    def _go_on(self, left: Left, known: Mapping[str, Message]) -> None:
        """Hold again what the interrupted run's window held, and count as that did."""
        shot, turns, ledger = left.snapshot, self._turns, self._ledger
        if shot["goes_on"]:
            turns.go_on()
        # What another model's server said of its tokens says nothing of this one's.
        system, tools = self._system.message, self._tools
        self._set_head(system, tools if left.asked and left.asked[0].tools else ())
        alike = shot.get("model") == self._profile.name and bool(left.asked) and ledger.restore(shot["learned"])
        settled = iter(shot["learned"]["settled"] if alike else ())
        self._summary.restore(shot["summary"])
        if shot["shown"]:
            # As it was shown, also where a request since has left less room for the next one.
            room = self.window - self._reserve
            self._compaction.write_summary(max(summary_cap(room, ledger.pinned()), room // 3), next(settled, None))

        def hold(names: Sequence[str], groups: deque[Group]) -> None:
            for name in names:
                message = known[name]
                self._door.refer(message)
                self._add(self._entry(message, self.counter.message(message)), groups, next(settled, None))

        self._newest = shot["task"]
        hold(shot["older"], turns.older)
        hold(shot["recent"], turns.recent)
        held = 0
        for asked in left.asked if alike else ():
            hold(left.told[held : asked.told], turns.recent)
            held = asked.told
            self._set_head(system, tools if asked.tools else ())
            ledger.asked(ledger.total())
            if asked.reported is not None:
                ledger.report(asked.reported, most=self.window - self._reserve)
        hold(left.told[held:], turns.recent)
        if not alike:
            self._set_head(system, tools)
        turns.rewrite()

    def _restore(self, state: JSON) -> None:
        if not isinstance(state, dict):
            return
        saved = cast("dict[str, Any]", state)
        self._summary.restore(saved["summary"])
        self._compaction.write_summary(summary_cap(self.window - self._reserve, self._ledger.pinned()))
        older = self._turns.older
        for raw in saved["messages"]:
            # Escaped and cut when it first came in, but perhaps for a model with other control tokens.
            for part in well_formed(self._again(sized(Message.from_json(raw))), older[-1] if older else None):
                self._door.refer(part)
                self._add(self._entry(part, self.counter.message(part)), older)
        self._finish(older)

    def _again(self, message: Message) -> Message:
        """A message of an earlier run, safe for this one's model; previews stay previews."""
        tokens = self._profile.control_tokens
        text = canonical(message.to_json()).decode("utf-8", "surrogatepass")
        safe = escape(text, tokens, own_tags=False)
        # A blank within a token is within a string: what was JSON stays JSON.
        return message if safe == text else Message.decode(safe.encode())

    def _set_head(self, system: Message, tools: tuple[ToolSchema, ...]) -> None:
        if system != self._system.message:
            self._system = self._entry(system, self.counter.message(system))
            self._ledger.set_head(system=self._system.tokens)
        if tools != self._tools:
            self._tools = tools
            self._ledger.set_head(tools=self.counter.tools(tools))

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

    def _error(self, reserve: int, words: int) -> ContextBudgetError:
        parts = {name: size for name, size in self.sizes(reserve).items() if name not in ("summary", "older messages")}
        return budget_error({**parts, "calls in words": words}, self.window, run_id=self._run_id)
