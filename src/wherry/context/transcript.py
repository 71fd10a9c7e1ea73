"""One conversation of many agents: stored once, and read by each within its own bounds.

A participant has a cursor and a summary of its own, never a copy: what it is shown is its summary of all up to the
cursor, and the entries after it, as they are stored.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape as quoted
from html import unescape as unquoted

from wherry.context.budget import DEFAULT_WINDOW
from wherry.context.counting import TokenCounter
from wherry.context.escape import escape
from wherry.context.facts import FactWriter, Summarize
from wherry.context.groups import Entry, Group
from wherry.context.previews import head_and_tail
from wherry.context.summary import Summary
from wherry.errors import ConfigurationError, ContextBudgetError
from wherry.journal.quoting import LEAST_BODY, quotable, quoting
from wherry.messages import Message, canonical, digest, parse
from wherry.models.protocol import ModelProfile
from wherry.redaction import redact_json
from wherry.store import Batch, Store
from wherry.store.records import Participant

_TAG = re.compile(r'<wherry:said by="([^"]*)"/>\n')
_PAGE = 32
"""Entries that are read at once: a participant that was away for long goes through the rest page by page."""
_SMALLEST = 32
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Said:
    """An entry of a transcript."""

    position: int
    """From 1, without gaps."""
    author: str
    text: str
    message: Message
    """As it is stored, and shown to all but the author: a user's message that says in wherry's tag who speaks."""
    digest: str


@dataclass(frozen=True, slots=True)
class View:
    """What a participant is shown, in the order in which it was said."""

    messages: tuple[Message, ...]
    """Its summary, if anything was folded; then others' entries as user's messages, its own as the assistant's.

    Users' messages may stand in a row, because each is stored once for everybody: `rendering.joined` makes one of them
    for a server that refuses that.
    """
    tokens: int
    """What they take, as counted."""
    position: int
    """That of the last entry; an answer to what was shown is appended with `expected=position + 1`."""


class Transcript:
    """A conversation in a store. Any number of these objects, in any number of processes, may be of the same one.

    Args:
        store: Where it is.
        name: Its name there; the conversation begins with the first entry.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    def __len__(self) -> int:
        """Number of entries, which is the last one's position."""
        return self.store.transcripts.length(self.name)

    async def append(self, author: str, text: str, *, expected: int | None = None, safe: bool = False) -> int:
        """Add what somebody said; its position. It is durable then, and everybody else's next view has it.

        Args:
            author: Who said it.
            text: What. Control tokens and wherry's tags in it are broken, so that it cannot pose as another's.
            expected: The position that it must get.
            safe: It came through a window's door, and has wherry's tags where wherry put them.

        Raises:
            ConfigurationError: `author` is no name.
            StoreConflict: Somebody else was there first; nothing was added.
        """
        if not author.strip() or len(author) > _LONGEST_NAME or "\n" in author:
            raise ConfigurationError(
                f"the author {author!r} is no name", hint=f"one line, at most {_LONGEST_NAME} characters"
            )
        data = redact_json(_message(author, escape(text, own_tags=not safe)).encode())
        name = digest(data)
        data = self._quoting(text, data)
        # The message first: an entry that names one which is not there yet would be seen by other processes.
        await asyncio.wrap_future(self.store.append(Batch(messages=((name, data),))))
        return self.store.transcripts.append(self.name, author, name, expected=expected)

    def _quoting(self, text: str, data: bytes) -> bytes:
        """The entry as it is stored: with the author's own message as a part of it, where the store has that."""
        if len(data) < LEAST_BODY or not getattr(self.store, "keeps_pieces", False):
            return data
        own = digest(redact_json(Message("assistant", text).encode()))
        found = self.store.messages([own])
        known = quotable(own, found[own]) if own in found else None
        return data if known is None else quoting(data, [known]) or data

    def read(self, *, after: int = 0, limit: int = 100) -> list[Said]:
        """The entries with a position above `after`, at most `limit`."""
        entries = self.store.transcripts.read(self.name, after=after, limit=limit)
        return [
            _said(entry.position, entry.author, entry.digest, self.store.message(entry.digest)) for entry in entries
        ]


def _message(author: str, text: str) -> Message:
    # In the text and not in the message's name: many servers refuse names with blanks, and many templates drop them.
    return Message("user", f'<wherry:said by="{quoted(author)}"/>\n{text}')


def unsigned(text: str, author: str) -> str:
    """A text of the author's without the tag that says so: models copy it from the messages that they are shown."""
    tag = _TAG.match(text.lstrip())
    return text.lstrip()[tag.end() :] if tag is not None and unquoted(tag[1]) == author else text


def _said(position: int, author: str, name: str, data: bytes) -> Said:
    message = Message.decode(data)
    tag = _TAG.match(message.content)
    text = message.content[tag.end() :] if tag is not None and unquoted(tag[1]) == author else message.content
    return Said(position, author, text, message, name)


class TranscriptReader:
    """What one participant sees of a transcript.

    * A view takes at most the tokens that it may take, the counter's margin included.
    * The newest entry is always in it, whole or shortened.
    * Between two folds each view's messages begin with all of the one before.
    * A view costs O(entries since the one before); memory is O(view).
    * Cursor and summary are saved with each fold: another process goes on with the same view.

    Not safe for concurrent use, and a participant should have one: of two, the one that folds last is kept.

    Args:
        transcript: The conversation.
        name: The participant's, as in the entries that it wrote.
        profile: Its model's.
        task: What it is there for: what this names is kept longest in the summary.
        summarize: Asks a model for summaries; None: they are extracts.
        high_water: Share of the room beyond which older entries are folded into the summary.
        low_water: Share of the room that folding goes down to.
    """

    def __init__(
        self,
        transcript: Transcript,
        name: str,
        *,
        profile: ModelProfile,
        task: str = "",
        summarize: Summarize | None = None,
        high_water: float = 0.85,
        low_water: float = 0.5,
    ) -> None:
        if not 0 < low_water < high_water <= 1:
            raise ConfigurationError(
                f"low_water={low_water!r} and high_water={high_water!r} must satisfy 0 < low_water < high_water <= 1"
            )
        self.transcript = transcript
        self.name = name
        self._profile = profile
        self._task = task
        self._summarize = summarize
        self._high, self._low = high_water, low_water
        self._counter = TokenCounter.for_profile(profile)
        self._held: deque[tuple[Said, Entry]] = deque()
        """The entries after the cursor, with what they are shown as."""
        self._tokens = 0
        """What those take together."""
        self._summary: Summary | None = None
        self._shown: Entry | None = None
        """The summary, as it stands in the view."""
        saved = transcript.store.transcripts.participant(transcript.name, name)
        self.cursor = 0 if saved is None else saved.cursor
        """The position of the last entry that is in the summary and no longer shown itself."""
        self._saved = None if saved is None else saved.state

    def sources(self) -> list[tuple[str, bytes]]:
        """The stored messages that the view's are made of, but for the summary's, with their digests."""
        return [(said.digest, said.message.encode()) for said, _ in self._held]

    async def view(self, room: int) -> View:
        """All that was said so far, in at most `room` tokens.

        Args:
            room: What is left of the window for the conversation, beside system prompt, tools and reply.

        Raises:
            ContextBudgetError: Not even the newest entry fits, however short.
        """
        summary = self._opened()
        last = self._held[-1][0].position if self._held else self.cursor
        while page := self.transcript.read(after=last, limit=_PAGE):
            last = page[-1].position
            for said in page:
                self._hold(said, room)
            await self._fold(summary, room)
        await self._fold(summary, room)  # the room may be smaller than at the view before, though nothing was said
        self._shorten(room)
        messages = [entry.message for entry in self._entries()]
        if not self._fits(room):
            raise ContextBudgetError(
                f"{room} tokens are too few for the newest of what was said in {self.transcript.name!r}",
                hint="use a model with a larger window, or give it a shorter system prompt or fewer tools",
            )
        return View(tuple(messages), self._total(), last)

    async def _ready(self) -> tuple[ModelProfile, int]:
        return self._profile, self._profile.window or DEFAULT_WINDOW

    def _opened(self) -> Summary:
        """The summary, as it was saved."""
        if self._summary is None:
            writer = None
            if self._summarize is not None:
                writer = FactWriter(self._summarize, ready=self._ready, task=self._task)
            self._summary = Summary(
                self._counter, task=self._task, control_tokens=self._profile.control_tokens, writer=writer, recall=False
            )
            if self._saved is not None:
                state = parse(self._saved)
                self._summary.restore(state["summary"])
                self._show(self._summary, state["cap"])
        return self._summary

    def _hold(self, said: Said, room: int) -> None:
        entry = self._entry(said, self._cap(room))
        self._held.append((said, entry))
        self._tokens += entry.tokens

    def _entry(self, said: Said, cap: int) -> Entry:
        """An entry as this participant is shown it, in about `cap` tokens."""
        size = len(said.text)
        shown, tokens = self._measured(said, said.text)
        for _ in range(8):
            if tokens <= cap or size < _SMALLEST:
                break
            size = min(size * cap // tokens, size - 16)
            where = f" of {len(said.text):,}, entry {said.position}"
            shown, tokens = self._measured(said, head_and_tail(said.text, size, where=where))
        return Entry(shown, self._counter.message(shown), said.digest)

    def _measured(self, said: Said, text: str) -> tuple[Message, int]:
        text = escape(text, self._profile.control_tokens, own_tags=False)  # they were broken when it was appended
        shown = Message("assistant", text) if said.author == self.name else _message(said.author, text)
        return shown, self._counter.scaled(self._counter.message(shown))

    def _cap(self, room: int) -> int:
        return max(_SMALLEST, (room - self._summary_cap(room)) // 2)

    def _summary_cap(self, room: int) -> int:
        return max(48, min(1_024, room // 8))

    def _total(self) -> int:
        return self._counter.scaled(self._tokens + (0 if self._shown is None else self._shown.tokens))

    def _fits(self, room: int) -> bool:
        total = self._total()
        return total + self._counter.margin(total) <= room

    def _entries(self) -> Iterator[Entry]:
        if self._shown is not None:
            yield self._shown
        for _, entry in self._held:
            yield entry

    async def _fold(self, summary: Summary, room: int) -> None:
        """Fold the oldest entries into the summary, if there are too many, and save how far that went."""
        if self._total() <= self._high * room and self._fits(room):
            return
        cap = self._summary_cap(room)
        shown = 0 if self._shown is None else self._shown.tokens
        groups: list[Group] = []
        while len(self._held) > 1 and self._total() + self._counter.scaled(cap - shown) > self._low * room:
            said, entry = self._held.popleft()
            self._tokens -= entry.tokens
            self.cursor = said.position
            role = "assistant" if said.author == self.name else "user"
            # Whole, and with the author's name in the place where the summary's writer looks for it.
            text, author = (escape(part, self._profile.control_tokens) for part in (said.text, said.author))
            groups.append(Group([Entry(Message(role, text, name=author), entry.tokens, said.digest)]))
        if groups:
            await summary.fold(groups, cap)
            self._show(summary, cap)
            state = canonical({"summary": summary.state(), "cap": cap})
            store = self.transcript.store
            store.transcripts.save_participant(self.transcript.name, Participant(self.name, self.cursor, state))

    def _show(self, summary: Summary, cap: int) -> None:
        message = summary.message(int(cap / self._counter.ratio))
        self._shown = None if message is None else Entry(message, self._counter.message(message), "")

    def _shorten(self, room: int) -> None:
        """The last resort, where the room is tiny: a shorter newest entry, then no summary."""
        for divisor in (1, 2, 4):
            if self._fits(room) or not self._held:
                return
            others = self._total() - self._counter.scaled(self._held[-1][1].tokens)
            said, before = self._held.pop()
            entry = self._entry(said, max((room - self._counter.margin(room) - others) // divisor, 1))
            self._held.append((said, entry))
            self._tokens += entry.tokens - before.tokens
        if not self._fits(room):
            self._shown = None
