"""What is promised of every request, over random conversations.

Each conversation is played as a run plays it: a journal, a store, a window; tool sets that come and go, pictures, calls
without results, results of ten megabytes, servers that have less room than they said, writers of summaries that do all
that models do, and a second run that goes on with the first one's state.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anyio
import pytest
from conversations import CONTROL, Conversation, Turn, conversations, exact
from hypothesis import HealthCheck, given, settings

from wherry.context import ContextBudget, ContextWindow, Fitted, facts
from wherry.context.history import History
from wherry.errors import ContextBudgetError
from wherry.journal import Event, EventType, Journal, RunJournal
from wherry.messages import Image, Message, ToolCall, ToolSchema, Usage, canonical, digest, parse
from wherry.models.protocol import ModelProfile, ModelReply, ModelRequest
from wherry.store import Store, open_store

NEWEST = {"qwen": 220, "bytes": 420}
"""Most tokens that the newest call with its result takes as the smallest previews; ids and names of 80 characters are
counted twice, and by the estimate at more than half a token a character."""
LAST_WORD = Message("user", "Say what you know.")


def check_order(messages: Sequence[Message], *, tools: bool) -> None:
    """What strict chat templates ask for: the system prompt, a user, then no two users in a row; every call is answered
    before anything else is said, every result answers a call; and without tools there is neither.
    """
    assert [message.role for message in messages[:2]] == ["system", "user"]
    waiting: Counter[str] = Counter()
    for before, message in pairwise(messages):
        assert (before.role, message.role) != ("user", "user")
        if message.role == "tool":
            assert tools, "a result in a request without tools"
            assert message.tool_call_id is not None
            assert waiting[message.tool_call_id] > 0, "a result without its call"
            waiting[message.tool_call_id] -= 1
            continue
        assert not +waiting, "a call without its result"
        waiting = Counter(call.id for call in message.tool_calls)
        assert tools or not waiting, "a call in a request without tools"
    assert not +waiting, "a call without its result"


@dataclass
class Play:
    """A conversation under way."""

    talk: Conversation
    store: Store = field(default_factory=lambda: open_store("memory://"))
    events: list[Event] = field(default_factory=list[Event])
    said: list[Message] = field(default_factory=list[Message])
    """As they are kept."""
    before: Fitted | None = None
    before_tools: bool = True
    marks: dict[str, str] = field(default_factory=dict[str, str])
    """A word that only one message has, and that message's digest."""

    def __post_init__(self) -> None:
        self.journal: RunJournal = Journal.start(self.store, agent="play", subscribers=[self.events.append])
        self.journal.record(EventType.RUN_STARTED, task=self.talk.task[:100], session="play")
        self.size = self.talk.budget.window or 0
        self.window = self.open(Message("user", self.talk.task), None)

    def open(self, task: Message, state: Any) -> ContextWindow:
        return ContextWindow(
            profile=ModelProfile("m", counter=self.talk.counter, control_tokens=CONTROL),
            budget=self.talk.budget,
            artifacts=self.store.artifacts,
            run_id=self.journal.run_id,
            record=self.journal.record,
            keep=self.journal.keep,
            system=Message("system", self.talk.system),
            task=task,
            history=() if state is not None else self.talk.history,
            state=state,
            tools=self.talk.tools,
            summarize=None if self.talk.writer == "none" else self.summarize,
        )

    async def summarize(self, request: ModelRequest) -> ModelReply:
        """Answer as the conversation's writer does; whatever it is asked satisfies the equation."""
        assert request.max_output is not None
        assert exact(request.messages, ()) + request.max_output <= self.window.window
        match self.talk.writer:
            case "good" | "wordy":
                words = request.messages[1].content.split()
                marks = [word for word in words if word in self.marks][:16]
                long = "and so on " * (60 if self.talk.writer == "wordy" else 2)
                said = [{"about": mark, "fact": f"was said <|im_end|> {long}"} for mark in marks or ["nothing"]]
                return ModelReply(json.dumps({"facts": said, "decisions": ["go on"], "open": []}))
            case "raises":
                raise RuntimeError("no memory")
            case "hangs":
                await anyio.sleep_forever()
            case "huge":
                return ModelReply("y" * 1_000_000)
            case "calls a tool":
                return ModelReply(tool_calls=[ToolCall("x", "search", {})])
            case "prose":
                return ModelReply("They spoke of many things.")
            case _:
                return ModelReply("")
        raise AssertionError

    def count(self, type: EventType) -> int:
        return sum(event.type is type for event in self.events)

    async def run(self) -> None:
        try:
            await self.ask(self.talk.tools, newest=None)
            for number, turn in enumerate(self.talk.turns):
                await self.play(number, turn)
                if number + 1 == self.talk.reopened:
                    self.reopen()
            await self.say(LAST_WORD)
            await self.ask((), newest=LAST_WORD)
        except ContextBudgetError as error:
            check_refusal(error, NEWEST[self.talk.counter])
        await self.journal.commit()
        self.check_history()

    async def play(self, number: int, turn: Turn) -> None:
        mark = f"mark{number}q"
        newest = await self.say(Message("assistant", f"{mark} {turn.said}", tool_calls=turn.calls))
        self.marks[mark] = digest(newest.encode())
        for result in turn.results:
            newest = await self.say(result)
        if turn.observation is not None:
            images = () if turn.picture is None else (Image(data=turn.picture),)
            newest = await self.say(Message("user", turn.observation, images=images))
        elif newest.role == "assistant" or len(turn.results) < len(turn.calls):
            newest = None if turn.calls else newest
        self.size = max(int(self.size * turn.shrink), 64)
        await self.ask(self.talk.tools if turn.tools else (), newest=newest)

    async def say(self, message: Message) -> Message:
        kept = await self.window.append(message)
        assert self.window.newest == digest(kept.encode())
        self.said.append(kept)
        return kept

    def reopen(self) -> None:
        """Go on in another run, with what the first one left."""
        state = parse(canonical(self.window.state()))
        if self.before is not None:  # O(window): a request's worth of messages, and what is added around them
            room = len(canonical([message.to_json() for message in self.before.messages]))
            fresh = sum(len(message.encode()) for message in self.said[-60:])
            assert len(canonical(state)) <= 2 * (room + fresh) + 4_096
        self.window = self.open(Message("user", "What did I say?"), state)
        self.before = None
        self.said.clear()

    async def ask(self, tools: Sequence[ToolSchema], *, newest: Message | None) -> None:
        """Make a request, as a run does, and hold it to all that is promised."""
        compactions = self.count(EventType.CONTEXT_COMPACTED)
        system = Message("system", self.talk.system)
        most = None
        if self.size < (self.talk.budget.window or 0):
            self.window.window = self.size
            most = max(min(16, self.size - 1), min(self.talk.budget.reserve_output or 1_024, self.size // 4))
        fitted = await self.window.request(system=system, tools=tools, max_output=most)
        self.journal.record(EventType.MODEL_REQUESTED, step=1, keep=fitted.keep, add=list(fitted.add))
        self.journal.send()
        now = self.count(EventType.CONTEXT_COMPACTED)
        self.check_request(fitted, tools, newest, folded=now > compactions)
        again = await self.window.request(system=system, tools=tools, max_output=most)
        assert again.messages == fitted.messages, "nothing was said, but something moved"
        assert self.count(EventType.CONTEXT_COMPACTED) == now
        if self.talk.reports:
            self.window.report(Usage(1, exact(fitted.messages, tools)))
        self.before, self.before_tools = fitted, bool(tools)

    def check_request(
        self, fitted: Fitted, tools: Sequence[ToolSchema], newest: Message | None, *, folded: bool
    ) -> None:
        prompt = exact(fitted.messages, tools)
        assert prompt + fitted.max_output <= fitted.window == self.window.window
        assert fitted.tokens + fitted.max_output <= fitted.window
        assert fitted.messages[0] == Message("system", self.talk.system)
        check_order(fitted.messages, tools=bool(tools))
        for message in fitted.messages[1:]:
            for token in CONTROL:
                assert token not in message.content
        assert fitted.add == tuple(digest(message.encode()) for message in fitted.messages[fitted.keep :])
        before = self.before
        if before is not None:
            assert fitted.messages[: fitted.keep] == before.messages[: fitted.keep]
            same = self.before_tools is bool(tools)
            if fitted.keep < len(before.messages) and same and not folded:
                # Only the newest turn had to give, or a user's message became longer.
                joined = fitted.messages[fitted.keep].content.startswith(before.messages[fitted.keep].content)
                assert joined or self.is_squeezed(fitted)
        if newest is not None:
            last = fitted.messages[-1].content
            cut = "<wherry:" in last or "cut to what fits" in last or "[a-" in last
            assert newest.content in last or cut or not last.rpartition("]\n")[2]
        users = "".join(message.content for message in fitted.messages if message.role == "user")
        assert self.window.task.content in users or "<wherry:" in users
        self.in_order(fitted)

    def is_squeezed(self, fitted: Fitted) -> bool:
        """Whether previews had to be made smaller."""
        return any("<wherry:" in message.content or not message.content for message in fitted.messages)

    def in_order(self, fitted: Fitted) -> None:
        """What is left of the conversation stands in the order in which it was said."""
        places = {id(message): place for place, message in enumerate(self.said)}
        left = [places[id(message)] for message in fitted.messages if id(message) in places]
        assert left == sorted(left)

    def check_history(self) -> None:
        """Everything that was said is kept; what was offloaded is there whole; what was folded can be recalled."""
        for message in self.said:
            assert Message.decode(self.store.message(digest(message.encode()))) == message
        folded: set[str] = set()
        for event in self.events:
            if event.type is EventType.CONTEXT_OFFLOADED and event.payload["ref"] is not None:
                assert len(self.store.artifacts.read(event.payload["ref"])) == event.payload["bytes"]
            if event.type is EventType.CONTEXT_COMPACTED:
                assert event.payload["groups"] > 0
                folded.update(event.payload["folded"])
        gone = [mark for mark, name in self.marks.items() if name in folded]
        history = History(self.store, self.journal.run_id, None)
        for mark in gone[:2]:
            found = history.find(mark)
            assert any(mark in memory.text for memory in found), f"{mark} was folded and cannot be recalled"


def check_refusal(error: ContextBudgetError, newest: int) -> None:
    """Only what cannot be folded may be the reason."""
    assert error.diagnosis is not None
    parts = error.diagnosis["parts"]
    assert sum(parts.values()) > error.diagnosis["window"]
    pinned = sum(tokens for name, tokens in parts.items() if name != "newest messages")
    assert pinned + newest > error.diagnosis["window"]


def play(talk: Conversation) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "_SECONDS", 0.02 if talk.writer == "hangs" else 60.0)
        anyio.run(lambda: Play(talk).run())


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(conversations())
def test_no_conversation_breaks_the_bound(talk: Conversation) -> None:
    play(talk)


def test_no_conversation_begins_with_the_model() -> None:
    """Where neither the summary nor what it stands for has room."""
    long = "a" * 64
    history = (
        Message("user", "next"),
        Message("assistant", "", tool_calls=(ToolCall("c0", long, {"q": "", "n": 283_641_720_628}),)),
        Message("tool", "", tool_call_id="nobody's", name="search"),
        Message("tool", "", tool_call_id="c0", name=long),
        Message("user", "next"),
        Message("assistant", ""),
    )
    turn = Turn(said="", calls=(), results=(), observation="", picture=None, tools=True, shrink=1.0)
    budget = ContextBudget(window=445, high_water=1.0, low_water=0.5)
    play(
        Conversation(
            system="",
            task="",
            tools=(),
            turns=(turn,),
            history=history,
            budget=budget,
            counter="bytes",
            reports=False,
            writer="none",
            reopened=None,
        )
    )


@pytest.mark.slow
@pytest.mark.bench
@settings(max_examples=5_000, deadline=None, suppress_health_check=SLOW)
@given(conversations())
def test_no_conversation_breaks_the_bound_at_length(talk: Conversation) -> None:
    play(talk)
