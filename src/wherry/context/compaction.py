"""Making room: whole turns are folded into the summary, oldest first; at last what cannot be folded is shortened."""

from __future__ import annotations

from collections.abc import Callable

from wherry.context.budget import ContextBudget
from wherry.context.door import Door
from wherry.context.groups import Entry, Group
from wherry.context.ledger import Ledger
from wherry.context.squeeze import narrow, shrink_group
from wherry.context.summary import Summary
from wherry.context.turns import Turns
from wherry.journal import EventType
from wherry.messages import Message

SMALLEST_CAP = 32
"""Tokens: no message is cut to less."""
_SMALLEST_SUMMARY, _LARGEST_SUMMARY = 48, 2_048


def summary_cap(room: int, pinned: int) -> int:
    """Most tokens of the summary: a sixth of the room, and a third of what the pinned parts leave."""
    return max(_SMALLEST_SUMMARY, min(_LARGEST_SUMMARY, room // 6, (room - pinned) // 3))


class Compaction:
    """Keeps what a window holds within its room, with hysteresis.

    Nothing moves until the next request would pass the high-water mark; then whole turns go, until it is at or under
    the low-water mark. Where the parts that cannot be folded reach the low-water mark by themselves, both marks are
    taken of the room that they leave: else every step would fold the turn before it.
    """

    def __init__(
        self,
        *,
        turns: Turns,
        ledger: Ledger,
        summary: Summary,
        door: Door,
        budget: ContextBudget,
        keep: Callable[[Message], str],
        record: Callable[..., object],
        divide: bool = True,
    ) -> None:
        self._divide = divide
        """Whether at last half of a turn's calls go with their results; else the whole turn is folded."""
        self._turns = turns
        self._ledger = ledger
        self._counter = ledger.counter
        self._summary = summary
        self._door = door
        self._budget = budget
        self._keep = keep
        self._record = record
        self._warned = False

    def fits(self, room: int) -> bool:
        """Whether a request of all that is held satisfies the equation."""
        total = self._ledger.total()
        return total + self._counter.margin(total) <= room

    async def keep_within(self, room: int) -> bool:
        """Fold if it is time to; whether what is left fits."""
        if self.fits(room) and self._ledger.total() <= self._mark(self._budget.high_water, room):
            return True
        await self._fold_down(room)
        if not self.fits(room):
            await self._squeeze(room)
        await self._begin_with_a_user(room)
        return self.fits(room)

    def write_summary(self, cap: int, settled: int | None = None) -> None:
        """Put the summary as it is now in the place of the one before.

        Args:
            cap: Tokens that it may take.
            settled: What it takes, where the server has said so.
        """
        if self._turns.summary is not None:
            self._ledger.drop([self._turns.summary])
            self._turns.summary = None
        message = self._summary.message(self._raw(cap))
        if message is not None:
            self._turns.summary = Entry(message, self._counter.message(message), self._keep(message))
            if settled is None:
                self._ledger.add(self._turns.summary)
            else:
                self._ledger.add_settled(self._turns.summary, settled)
        self._turns.rewrite()

    def _raw(self, cap: int) -> int:
        """A cap as the counter counts, before its correction."""
        return int(cap / self._counter.ratio)

    def _mark(self, share: float, room: int) -> float:
        pinned = self._ledger.pinned()
        if pinned + summary_cap(room, pinned) < self._budget.low_water * room:
            return share * room
        return pinned + share * max(room - pinned, 0)

    async def _fold_down(self, room: int) -> None:
        """Fold whole turns, oldest first, down to the low-water mark."""
        before = self._ledger.total()
        cap, low = summary_cap(room, self._ledger.pinned()), self._mark(self._budget.low_water, room)
        summary = self._turns.summary
        # Without what the last report took off: that is void as soon as anything before the end changes.
        rest = before + self._ledger.surplus - (0 if summary is None else self._ledger.cost(summary))
        rest += self._counter.scaled(self._summary.most(self._raw(cap)))
        folded: list[Group] = []
        while rest > low and self._turns.foldable:
            folded.append(self._turns.pop_oldest())
            rest -= sum(self._ledger.cost(entry) for entry in folded[-1].entries)
        if folded:
            # All at once: dropping looks through the whole window.
            self._ledger.drop(entry for group in folded for entry in group.entries)
            await self._fold(folded, cap, before)

    async def _fold(self, groups: list[Group], cap: int, before: int) -> None:
        """Put turns that were taken out into the summary."""
        how = await self._summary.fold(groups, self._raw(cap))
        if how.startswith("extract: ") and not self._warned:
            self._warned = True
            self._record(
                EventType.WARNING,
                message=f"the model wrote no summary ({how.removeprefix('extract: ')}); an extract stands in its place",
                hint="give ContextBudget(summarizer=...) a model that can, or ask for compaction='extract'",
            )
        self.write_summary(cap)
        self._record(
            EventType.CONTEXT_COMPACTED,
            groups=len(groups),
            folded=[entry.digest for group in groups for entry in group.entries],
            tokens_before=before,
            tokens_after=self._ledger.total(),
            summary=None if self._turns.summary is None else self._turns.summary.digest,
            how=how,
        )

    async def _squeeze(self, room: int) -> None:
        """The newest turn alone is too large: previews of its messages, then only its last results; at last no summary
        and a shorter preview of the task.
        """
        if self._turns.recent:
            await self._squeeze_newest(self._turns.recent[-1], room)
        if not self.fits(room):
            self._drop_summary()
        if not self.fits(room):
            task = self._turns.task
            over = self._ledger.total() + self._counter.margin(room) - room
            message, tokens = self._door.shrink(task.message, max(task.tokens - over, SMALLEST_CAP), admitted=True)
            if tokens < task.tokens:
                self._turns.task = Entry(message, tokens, self._keep(message))
                self._ledger.set_head(task=tokens)
                self._turns.rewrite()

    def _drop_summary(self) -> None:
        """Its lines stay: the next compaction writes it again."""
        if self._turns.summary is not None:
            self._ledger.drop([self._turns.summary])
            self._turns.summary = None
            self._turns.rewrite()

    async def _begin_with_a_user(self, room: int) -> None:
        """Where there was no room for the summary, turns from before the task that stood behind it go too, up to one
        that a request can begin with.
        """
        older, going, before = self._turns.older, list[Group](), self._ledger.total()
        if self._turns.summary is not None:
            return
        while older and older[0].entries[0].message.role != "user":
            going.append(older.popleft())
        if going:
            self._ledger.drop(entry for group in going for entry in group.entries)
            await self._fold(going, summary_cap(room, self._ledger.pinned()), before)
            if not self.fits(room):
                self._drop_summary()

    async def _squeeze_newest(self, newest: Group, room: int) -> None:
        for divisor in (1, 2, 4):
            if self.fits(room):
                return
            others = self._ledger.total() - sum(self._ledger.cost(entry) for entry in newest.entries)
            free = (room - self._counter.margin(room) - others) // divisor
            shrink_group(newest, free, door=self._door, ledger=self._ledger, keep=self._keep)
            self._turns.rewrite()
        before = self._ledger.total()
        going: list[Group] = []
        while self._divide and not self.fits(room) and len(newest.entries) > 2:
            going.append(narrow(newest, ledger=self._ledger, keep=self._keep))
        if not self._divide and not self.fits(room):
            going.append(self._turns.recent.pop())
            self._ledger.drop(newest.entries)
        if going:
            await self._fold(going, summary_cap(room, self._ledger.pinned()), before)
