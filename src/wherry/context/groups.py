"""Turn groups: an assistant's message with all that follows up to the next one. They are folded whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wherry.context.untrusted import Untrusted
from wherry.messages import Message

UNFINISHED = "[no result: the call was not finished]"


@dataclass(slots=True)
class Entry:
    """A message in the window, with what it takes."""

    message: Message
    tokens: int
    """As counted when it came in."""
    digest: str
    settled: int | None = None
    """Its share of what the server reported, where the counter only estimates."""
    worded: tuple[Message, int] | None = None
    """What it takes in words, if that was ever asked, and of which message that was counted."""
    stays: int = 0
    """Of `tokens`, what is no part of the message and stays however short that is made."""


@dataclass(slots=True)
class Group:
    """A turn."""

    entries: list[Entry] = field(default_factory=list[Entry])
    open_calls: dict[str, int] = field(default_factory=dict[str, int])
    """Ids of calls that have no result yet, with how many calls have that id."""

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        calls, answered = self.open_calls, entry.message.tool_call_id
        for call in entry.message.tool_calls:
            calls[call.id] = calls.get(call.id, 0) + 1
        if answered is not None and answered in calls:
            if calls[answered] > 1:
                calls[answered] -= 1
            else:
                del calls[answered]


def entries_of(groups: Iterable[Group]) -> Iterator[Entry]:
    """All messages of the groups, in order."""
    for group in groups:
        yield from group.entries


def well_formed(message: Message, newest: Group | None) -> list[Message]:
    """What to append so that `message` can follow `newest`: no call without a result, no result without a call.

    Calls that are still open get a result that says so before anything else may follow; a result that answers no open
    call becomes a user's message. Servers refuse a conversation that breaks this, and a run that was cut off or two
    results under one id do break it.
    """
    if message.role == "tool":
        if newest is not None and message.tool_call_id is not None and message.tool_call_id in newest.open_calls:
            return [message]
        said = f"[result of {message.name or 'a tool'}, whose call is not in this conversation]\n{message.content}"
        if isinstance(message.content, Untrusted):
            said = Untrusted(said, source=message.content.source, after=message.content.after)
        message = Message("user", said, images=message.images)
    return [*unfinished(newest), message]


def unfinished(group: Group | None) -> list[Message]:
    """Results for the calls of a group that have none, in the order of the calls."""
    if group is None or not group.open_calls:
        return []
    left = dict(group.open_calls)
    results: list[Message] = []
    for entry in group.entries:
        for call in entry.message.tool_calls:
            if left.get(call.id, 0) > 0:
                left[call.id] -= 1
                results.append(Message("tool", UNFINISHED, tool_call_id=call.id, name=call.name))
    return results
