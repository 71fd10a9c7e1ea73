"""What is done when the pinned parts and the newest turn alone are too large: previews, then fewer calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from wherry.context.door import Door
from wherry.context.groups import Entry, Group
from wherry.context.ledger import Ledger
from wherry.messages import Message, ToolCall

_SET_ASIDE = re.compile(r"\n?\[(\d{1,9}) further results of this turn are set aside; recall\(query\) finds them\]\Z")


def shrink_group(group: Group, free: int, *, door: Door, ledger: Ledger, keep: Callable[[Message], str]) -> None:
    """Previews in place of a turn's large messages, so that it takes about `free` tokens."""
    # The smallest first: what they leave of their share goes to the large ones.
    left, count = free, len(group.entries)
    for entry in sorted(group.entries, key=ledger.cost):
        share = max(left // count, 1)
        if ledger.cost(entry) > share:
            _replace(entry, share, door=door, ledger=ledger, keep=keep)
        left -= min(ledger.cost(entry), share)
        count -= 1


def _replace(entry: Entry, cap: int, *, door: Door, ledger: Ledger, keep: Callable[[Message], str]) -> None:
    message, tokens = door.shrink(entry.message, max(cap - entry.stays, 1), admitted=True)
    tokens += entry.stays
    if tokens < entry.tokens:
        ledger.drop([entry])
        entry.message, entry.tokens, entry.digest, entry.settled = message, tokens, keep(message), None
        ledger.add(entry)


def narrow(group: Group, *, ledger: Ledger, keep: Callable[[Message], str]) -> Group:
    """Take the older half of a turn's results out of it, each with its call.

    This is the one case in which a turn is divided: one of hundreds of parallel calls fits no small window in any form.
    The assistant's message keeps the calls whose results stay, and says that there were others: nobody has read them.

    Returns:
        What was taken out, as a turn of its own.
    """
    said = group.entries[0]
    half = max((len(group.entries) - 1) // 2, 1)
    going, staying = group.entries[1 : 1 + half], group.entries[1 + half :]
    ledger.drop(group.entries)
    gone, kept = _divide(said.message, going)
    content = _noted(said.message.content, sum(entry.message.role == "tool" for entry in going))
    message = Message(said.message.role, content, tool_calls=kept, name=said.message.name)
    group.entries[:] = [Entry(message, ledger.counter.message(message), keep(message)), *staying]
    for entry in group.entries:
        entry.settled = None
        ledger.add(entry)
    return Group([Entry(Message("assistant", tool_calls=gone), 0, said.digest), *going])


def _noted(content: str, results: int) -> str:
    """What the assistant said, with one line about results that are no longer there."""
    if not results:
        return content
    if (before := _SET_ASIDE.search(content)) is not None:
        content, results = content[: before.start()], results + int(before[1])
    note = f"[{results} further results of this turn are set aside; recall(query) finds them]"
    return f"{content}\n{note}" if content else note


def _divide(message: Message, going: Sequence[Entry]) -> tuple[list[ToolCall], list[ToolCall]]:
    """The calls whose results are in `going`, and the others."""
    answered = [entry.message.tool_call_id for entry in going if entry.message.role == "tool"]
    gone: list[ToolCall] = []
    kept: list[ToolCall] = []
    for call in message.tool_calls:
        if call.id in answered:
            answered.remove(call.id)
            gone.append(call)
        else:
            kept.append(call)
    return gone, kept
