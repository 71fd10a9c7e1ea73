"""The messages of a window in their order: turns from before the task, the task, the summary, the run's turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from wherry.context.groups import Entry, Group, entries_of
from wherry.messages import Message


class Turns:
    """What a window holds besides the system prompt.

    `messages` is the flat list that requests are made of; it grows with each message and is made anew by a rewrite.
    """

    def __init__(self, task: Entry) -> None:
        self.task = task
        self.summary: Entry | None = None
        self.older: deque[Group] = deque()
        """From before the task; folded first."""
        self.recent: deque[Group] = deque()
        """The run's own. The last one is never folded."""
        self.messages: list[Message] = [task.message]

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
        if groups is self.recent:
            self.messages.append(entry.message)

    def rewrite(self) -> None:
        """Make the flat list anew, after something other than its end has changed."""
        self.messages = [entry.message for entry in self.entries()]

    def entries(self) -> Iterator[Entry]:
        """All messages in order. The summary stands where the folded ones stood."""
        if not self.older:
            yield self.task
        if self.summary is not None:
            yield self.summary
        if self.older:
            yield from entries_of(self.older)
            yield self.task
        yield from entries_of(self.recent)

    def digests(self, start: int) -> tuple[str, ...]:
        """Digests of the messages from `start` on: O(messages after it), as long as they are the run's own."""
        wanted = len(self.messages) - start
        found: list[str] = []
        for group in reversed(self.recent):
            if len(found) >= wanted:
                break
            found.extend(entry.digest for entry in reversed(group.entries))
        if len(found) < wanted:
            return tuple(entry.digest for entry in self.entries())[start:]
        return tuple(reversed(found[:wanted]))
