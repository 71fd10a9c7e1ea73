"""The messages of a window in their order: turns from before the task, the task, the summary, the run's turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from wherry.context.groups import Entry, Group, entries_of
from wherry.context.rendering import in_words, joined
from wherry.messages import Message


class Turns:
    """What a window holds besides the system prompt, and the flat list of messages that requests are made of.

    The list grows with each message and is made anew by a rewrite. It differs from the entries where `rendering` says
    so; an entry is counted for what it takes by itself, which is no less than what it takes there.

    Args:
        task: The run's task.
        keep: Stores a message and gives its digest.
    """

    def __init__(self, task: Entry, *, keep: Callable[[Message], str]) -> None:
        self.task = task
        self.summary: Entry | None = None
        self.older: deque[Group] = deque()
        """From before the task; folded first."""
        self.recent: deque[Group] = deque()
        """The run's own. The last one is never folded."""
        self.rewrites = 0
        """How often something other than the end has changed."""
        self.has_calls = False
        """Whether there was ever a call or a result."""
        self._goes_on = False
        """Whether anything came before the task."""
        self._keep = keep
        self._plain = False
        self._messages: list[Message] = []
        self._digests: list[str] = []
        self._waiting: list[Entry] = []
        """Not yet in the flat list."""
        self._sent: tuple[Message, ...] = ()
        self._unchanged = 0
        """Leading messages of the flat list that were sent as they stand; -1: to be found by comparing."""
        self.rewrite()

    @property
    def foldable(self) -> bool:
        return bool(self.older) or len(self.recent) > 1

    def pop_oldest(self) -> Group:
        """Take out the oldest turn."""
        return self.older.popleft() if self.older else self.recent.popleft()

    def add(self, entry: Entry, groups: deque[Group]) -> None:
        """Put a message at the end of `older` or `recent`."""
        if not groups or entry.message.role == "assistant":
            groups.append(Group())
        groups[-1].add(entry)
        self._goes_on = self._goes_on or groups is self.older
        self.has_calls = self.has_calls or bool(entry.message.tool_calls) or entry.message.role == "tool"
        if groups is self.recent:
            self._waiting.append(entry)

    @property
    def goes_on(self) -> bool:
        """Whether anything came before the task."""
        return self._goes_on

    def go_on(self) -> None:
        """Something came before the task, even if nothing of it is left."""
        self._goes_on = True

    def amend(self, turn: Group, entries: list[Entry]) -> None:
        """Let a turn of the run hold other messages; without any it is taken out."""
        turn.entries = entries
        if not entries:
            self.recent = deque(one for one in self.recent if one is not turn)
        self.rewrite()

    def rewrite(self) -> None:
        """Make the flat list anew, after something other than its end has changed."""
        self.rewrites += 1
        self._messages, self._digests = [], []
        self._waiting = list(self.entries())
        self._unchanged = -1

    def entries(self) -> Iterator[Entry]:
        """All messages in order. The summary stands where the folded ones stood.

        In a conversation that goes on it stays before the task even when all before the task is folded: there the next
        run has it too, and a prompt cache knows the beginning again.
        """
        if not self._goes_on:
            yield self.task
        if self.summary is not None:
            yield self.summary
        if self._goes_on:
            yield from entries_of(self.older)
            yield self.task
        yield from entries_of(self.recent)

    def flat(self, *, tools: bool) -> tuple[tuple[Message, ...], int]:
        """The messages of a request that offers tools or none, and how many of them the last one began with."""
        if self._plain is tools:
            self._plain = not tools
            self.rewrite()
        self._render()
        messages = tuple(self._messages)
        keep = self._unchanged if self._unchanged >= 0 else _common(messages, self._sent)
        self._sent, self._unchanged = messages, len(messages)
        return messages, keep

    def digests(self, start: int) -> tuple[str, ...]:
        """Digests of the flat messages from `start` on."""
        return tuple(self._digests[start:])

    def _render(self) -> None:
        """Put what waits at the end of the flat list."""
        users: list[Message] = []
        digest: str | None = None
        for entry in self._waiting:
            message = in_words(entry.message) if self._plain else entry.message
            if message.role != "user":
                self._add_users(users, digest)
                users, digest = [], None
                self._append(message, entry.digest if message is entry.message else None)
                continue
            if not users and self._messages and self._messages[-1].role == "user":
                # What was sent is sent on as the beginning of a longer message.
                users = [self._messages.pop()]
                self._digests.pop()
                self._unchanged = min(self._unchanged, len(self._messages))
            digest = entry.digest if not users and message is entry.message else None
            users.append(message)
        self._add_users(users, digest)
        self._waiting.clear()

    def _add_users(self, users: list[Message], digest: str | None) -> None:
        if users:
            self._append(joined(users), digest)

    def _append(self, message: Message, digest: str | None) -> None:
        self._messages.append(message)
        self._digests.append(self._keep(message) if digest is None else digest)


def _common(messages: tuple[Message, ...], before: tuple[Message, ...]) -> int:
    same = 0
    for now, then in zip(messages, before, strict=False):
        if now is not then and now != then:
            break
        same += 1
    return same
