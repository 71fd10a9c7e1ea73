"""What one participant is shown of the chat at its turns: a setting in its system prompt, and its view of the
transcript, within its own model's window. It holds a cursor and a summary, never a copy of what was said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from wherry.agents.agent import Agent
from wherry.agents.group.state import ASKER, Chat
from wherry.agents.run import Unopened
from wherry.context import DEFAULT_WINDOW, TokenCounter, escape
from wherry.context.facts import Summarize
from wherry.context.previews import head_and_tail
from wherry.context.transcript import TranscriptReader
from wherry.errors import ModelError
from wherry.messages import JSON
from wherry.models import FailureKind, ModelProfile, ModelReply, ModelRequest

_NO_SUMMARY: JSON = {"left_out": 0, "lines": []}
_TASK_CHARS = 2_000
_ABOUT_CHARS = 200
_VIEW_SHARE = 0.75
"""Of what the pinned parts leave under the high-water mark: the rest is for what the turn itself brings, calls of tools
and their results, before anything has to be folded in the middle of it."""
_TEXT_TOKENS = 1_500
"""Of a view that is given as text: to a group within the group, whose members may have small windows."""


class Seat:
    """One participant's place in one chat.

    Args:
        agent: The participant.
        others: The other participants' descriptions, by name.
        chat: The chat as it stands; `chat` is set anew before each turn.
        task: The task as the group's own window keeps it: a preview where it is large.
    """

    def __init__(self, agent: Agent, others: Mapping[str, str], chat: Chat, task: str) -> None:
        self.agent = agent
        self.name = agent.name or ""
        self.chat = chat
        self._others = others
        self._task = task
        self._reader: tuple[ModelProfile, TranscriptReader] | None = None
        self._summarize: Summarize | None = None

    @property
    def nudge(self) -> str:
        """The task of each turn: the same bytes each time, and few."""
        return f"It is your turn, {self.name}. Say what you add to the conversation now."

    def setting(self, window: int) -> str:
        """Who is there, and what the conversation is about."""
        room = min(_TASK_CHARS, window // 8)  # a small window has tools to hold, and the task is in the view besides
        about = min(_ABOUT_CHARS, room // max(len(self._others), 1))
        rows = [
            f"- {name}: {head_and_tail(' '.join(text.split()), about)}" if text and about > 16 else f"- {name}"
            for name, text in self._others.items()
        ]
        how = "by final_answer(text)" if self.agent.kind == "code" else "as plain text"
        parts = [
            f"You are {self.name}, one of several in a conversation. The others, besides {ASKER} who gave the task:",
            escape("\n".join(rows)),
            "A tag before each message says whose it is. Write only your own words, without a tag, and never speak "
            f"for others. Give what you say {how}.",
            f"The task of the conversation:\n{head_and_tail(self._task, room)}",
        ]
        return "\n\n".join(part for part in parts if part)

    async def state(self, run: Unopened) -> JSON:
        """The view, as the state of a conversation that the run's window goes on from."""
        reader = self._reader_for(run.profile, run.summarize)
        view = await reader.view(_room(run))
        run.journal.may_quote(reader.sources())
        return {"version": 1, "summary": _NO_SUMMARY, "messages": [message.to_json() for message in view.messages]}

    async def as_text(self) -> str:
        """The view in words, of a bounded size, for a participant that has no window of its own."""
        reader = self._reader_for(ModelProfile(self.name, window=DEFAULT_WINDOW), None)
        view = await reader.view(_TEXT_TOKENS)
        said = [self._in_words(message.role, message.content) for message in view.messages]
        return "\n\n".join(said)

    def _in_words(self, role: str, content: str) -> str:
        return f"{self.name} said:\n{content}" if role == "assistant" else content

    def _reader_for(self, profile: ModelProfile, summarize: Summarize | None) -> TranscriptReader:
        self._summarize = summarize
        if self._reader is None or self._reader[0] != profile:
            asked = None if summarize is None else partial(Seat._asked, self)
            reader = TranscriptReader(
                self.chat.transcript, self.name, profile=profile, task=self._task, summarize=asked
            )
            self._reader = profile, reader
        return self._reader[1]

    async def _asked(self, request: ModelRequest) -> ModelReply:
        """A summary, asked for by the turn under way: each turn is a run of its own, and pays for its own summaries."""
        if self._summarize is None:
            raise ModelError("no model writes summaries for this turn", kind=FailureKind.BadRequest)
        return await self._summarize(request)


def _room(run: Unopened) -> int:
    """Tokens that the view may take."""
    budget, profile = run.budget, run.profile
    counter = TokenCounter.for_profile(profile)
    window = budget.window or max(profile.window or 0, 0) or DEFAULT_WINDOW
    room = window - (budget.reserve_output or min(profile.max_output, max(window // 4, 1)))
    pinned = counter.request + counter.message(run.system) + counter.message(run.task) + counter.tools(run.tools)
    free = int(room * budget.high_water) - counter.margin(room) - pinned
    return max(int(free * _VIEW_SHARE), 0)
