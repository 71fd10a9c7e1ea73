"""What the messages of a window take together, kept as sums: no step counts anything twice.

With the model's own tokenizer the counts stand, corrected by the largest recent ratio to what the server reports; and
what a report is under the count is taken off for as long as requests only grow, since it says nothing of each part. An
estimating counter is far above the truth for most texts, so there a report settles them: what the server has counted
is taken at its word, and only what it has not seen yet at the estimate. That keeps the sum an upper bound for whatever
kind of text comes next, which one ratio for all of them would not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from wherry.context.counting import LARGEST_IMAGE, MOST_EXACT_RATIO, MOST_RATIO, TokenCounter
from wherry.context.groups import Entry
from wherry.messages import JSON

_FAR_UNDER = 0.5
"""A report below this share of an exact count means that the server cut the prompt; one that grew by less than this
share of what was added to the prompt as well."""
_GROWTH = 64
"""Tokens that a prompt has to grow by before that is looked at."""
_MOST_CHARACTERS = 16
"""A report below an estimate's sixteenth cannot be true."""
_SHARED = 1.1
"""One report for several messages says nothing of each alone: a tenth is added, so that what remains when others are
folded away is not counted short."""

_MOST_SURPLUS = 10
"""A report under an exact count takes off this part of it at most: the texts are counted as they are."""
_MOST_AROUND = 50
"""The part of an exact count by which what stands around the messages may be less."""
_MUCH_UNDER = 0.85
"""A report below this share of what an exact counter surely knows is not about the prompt that was sent."""
_LEAST_SETTLED = 0.3
_CHARACTERS = 6
"""No text has fewer tokens than a sixth of its characters, and no estimate is more than three times the truth, except
for texts of blanks and the like: those stay at the estimate."""
_OVERHEAD = 48
"""Tokens that a template is taken to add to a message where it is not known."""
_SURELY = 256
"""Tokens of an estimate from which that is looked at."""

Verdict = Literal["none", "fine", "cut", "nonsense", "low"]
"""Of a report: nothing to compare it with; learned from; the server must have cut the prompt; it cannot be true, for
it is too high; or too low."""


class Ledger:
    """The sums of one window."""

    def __init__(self, counter: TokenCounter) -> None:
        self.counter = counter
        self.system = 0
        self.tools = 0
        self.task = 0
        self._head = counter.request
        """What the pinned parts take as counted, with the request's own overhead."""
        self._head_settled: int | None = None
        self._settled = 0
        self._raw = 0
        self._fresh: list[Entry] = []
        """In the window, but not yet part of a request."""
        self._asked: list[Entry] = []
        """Part of a request, but not yet settled by a report."""
        self._counted: int | None = None
        """What the request took that no report has come for yet."""
        self._reported: tuple[int, int] | None = None
        """The last report, and what was counted for it, while requests only grow."""
        self._surplus = 0
        """What the last report is under the count, while requests only grow."""
        self._pictures = 0

    def set_head(self, *, system: int | None = None, tools: int | None = None, task: int | None = None) -> None:
        """What the pinned parts take; what the server said of them before is void."""
        self.system = self.system if system is None else system
        self.tools = self.tools if tools is None else tools
        self.task = self.task if task is None else task
        self._head = self.counter.request + self.system + self.tools + self.task
        self._head_settled = None
        self._changed()

    def add(self, entry: Entry) -> None:
        """Take in a message that is not pinned."""
        self._fresh.append(entry)
        self._raw += entry.tokens
        self._pictures += len(entry.message.images)

    def learned(self, entries: Iterable[Entry]) -> JSON:
        """What reports have said, of the pinned parts and of these messages: for `restore`."""
        settled: list[JSON] = [entry.settled for entry in entries]
        return {
            "head": self._head,
            "pinned": self._head_settled,
            "settled": settled if any(tokens is not None for tokens in settled) else [],
            "ratios": [*self.counter.ratios],
        }

    def restore(self, learned: Mapping[str, Any]) -> bool:  # Any: JSON that `learned` made
        """Know of the pinned parts what was known; whether they are the same parts."""
        if learned["head"] != self._head:
            return False
        self._head_settled = learned["pinned"]
        self.counter.restore(learned["ratios"])
        return True

    def add_settled(self, entry: Entry, tokens: int) -> None:
        """Take in a message of which the server has said what it takes."""
        entry.settled = tokens
        self._settled += tokens
        self._pictures += len(entry.message.images)

    def drop(self, entries: Iterable[Entry]) -> None:
        """Take out messages that were added."""
        gone: set[int] = set()
        for entry in entries:
            gone.add(id(entry))
            self._pictures -= len(entry.message.images)
            if entry.settled is None:
                self._raw -= entry.tokens
            else:
                self._settled -= entry.settled
        self._fresh = [entry for entry in self._fresh if id(entry) not in gone]
        self._asked = [entry for entry in self._asked if id(entry) not in gone]
        self._changed()

    def _changed(self) -> None:
        """The next request does not begin with the one before."""
        self._reported = None
        self._surplus = 0

    def cost(self, entry: Entry) -> int:
        """What a message takes."""
        return self.counter.scaled(entry.tokens) if entry.settled is None else entry.settled

    def pinned(self) -> int:
        """What system prompt, tools and the task take, with the request's own overhead."""
        return self.counter.scaled(self._head) if self._head_settled is None else self._head_settled

    def total(self) -> int:
        """What the next request's messages and tools take."""
        return self.pinned() + self._settled + self.counter.scaled(self._raw) - self._surplus

    @property
    def surplus(self) -> int:
        """What the last report took off the counts of an unchanged beginning."""
        return self._surplus

    @property
    def settled(self) -> bool:
        """Whether anything is taken as the server counted it."""
        return self._settled > 0

    def asked(self, total: int) -> None:
        """A request with all that is in was made."""
        self._asked.extend(self._fresh)
        self._fresh.clear()
        self._counted = total

    def report(self, reported: int, *, most: int) -> tuple[int, Verdict]:
        """Learn what the server counted for the last request.

        Args:
            most: What a request may take.

        Returns:
            What was counted here, and what the report is worth. It is nonsense when it is not above 0 or several times
            the count. The prompt was cut when it is under half of an exact count, or less than before for a prompt
            that only grew.
        """
        counted, self._counted = self._counted, None
        if counted is None:
            return 0, "none"
        raw = self._head + self._raw + self._settled
        if reported <= 0 or reported > max(raw, counted) * MOST_RATIO:
            return counted, "nonsense"
        if self.counter.exact and reported > most and reported > counted * MOST_EXACT_RATIO:
            return counted, "nonsense"
        if self._is_cut(raw, reported):
            return counted, "cut"
        self._reported = reported, raw
        if self.counter.exact:
            return counted, self._take_off(raw, reported)
        return counted, self._settle(reported)

    def _take_off(self, raw: int, reported: int) -> Verdict:
        self._surplus = 0
        unsure = self.tools + self._pictures * LARGEST_IMAGE
        if reported < (raw - unsure) * _MUCH_UNDER - _SURELY:
            return "low"
        self.counter.report(raw, reported)
        total = self.total()
        # What stands around each message is counted from above as well.
        most = self.counter.scaled(unsure + self.counter.request) + total // _MOST_AROUND
        self._surplus = max(min(total - reported, most, total // _MOST_SURPLUS), 0)
        return "fine"

    def _is_cut(self, raw: int, reported: int) -> bool:
        # Schemas and pictures are counted from far above: they say nothing here.
        exact = self.counter.exact and not self._pictures
        if exact and reported < (raw - self.tools) * _FAR_UNDER:
            return True
        if self._reported is None:
            return False
        before, raw_before = self._reported
        grown = raw - raw_before
        return reported < before or (exact and grown >= _GROWTH and reported - before < grown * _FAR_UNDER)

    def _settle(self, reported: int) -> Verdict:
        batch, self._asked = self._asked, []
        head = self._head if self._head_settled is None else 0
        raw = head + sum(entry.tokens for entry in batch)
        part = reported - self._settled - (self._head_settled or 0)
        if part <= raw // _MOST_CHARACTERS:
            self._asked = batch
            return "low" if self._is_low(batch, part) else "fine"
        if self._is_low(batch, part):
            self._asked = batch  # settled with what comes next, or never
            return "low"
        self.counter.report(raw, part)
        alone = len(batch) + (1 if head else 0) == 1
        share = part / raw if alone else part * _SHARED / raw
        if head:
            self._head_settled = math.ceil(head * share)
        for entry in batch:
            entry.settled = math.ceil(entry.tokens * share)
            self._raw -= entry.tokens
            self._settled += entry.settled
        return "fine"

    def _is_low(self, batch: Sequence[Entry], part: int) -> bool:
        """Whether a report is less than what was sent can have taken. Schemas say nothing, nor does what is added."""
        texts = 0 if self._head_settled is not None else max(self.system + self.task - 2 * _OVERHEAD, 0)
        sure = texts + sum(max(entry.tokens - _OVERHEAD, 0) for entry in batch if not entry.message.images)
        characters = sum(len(entry.message.content) for entry in batch)
        return sure > _SURELY and part < max(sure * _LEAST_SETTLED, characters / _CHARACTERS)
