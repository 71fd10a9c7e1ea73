"""What a window held at a request, by digests: an interrupted run goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from wherry.context.groups import entries_of
from wherry.context.ledger import Ledger
from wherry.context.summary import Summary
from wherry.context.turns import Turns
from wherry.messages import JSON, Message


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that a window made since its snapshot, which was of the first of them."""

    told: int
    """How many messages were appended to the window between the snapshot and this request."""
    _: KW_ONLY
    tools: bool = True
    """Whether it offered the run's tools."""
    reported: int | None = None
    """Tokens that its server counted, where it said so."""


@dataclass(frozen=True, slots=True)
class Left:
    """A window as an interrupted run left it."""

    snapshot: Mapping[str, Any]  # Any: JSON, as `snapshot_of` made it
    told: Sequence[str]
    """Digests of what was appended since then."""
    read: Callable[[Sequence[str]], Mapping[str, Message]]
    """Reads kept messages by their digests."""
    asked: Sequence[Asked] = ()
    """From that of the snapshot on: what their server said, the window counts by again."""

    @property
    def digests(self) -> list[str]:
        """Of all messages that it held, but for the summary."""
        shot = self.snapshot
        return [shot["task"], *shot["older"], *shot["recent"], *self.told]


def snapshot_of(turns: Turns, summary: Summary, ledger: Ledger, model: str) -> JSON:
    """O(window): made for the first request and after each compaction, which took in as much as it lists."""
    older, recent = [*entries_of(turns.older)], [*entries_of(turns.recent)]
    counted = [*older, *recent] if turns.summary is None else [turns.summary, *older, *recent]
    return {
        "task": turns.task.digest,
        "older": [entry.digest for entry in older],
        "recent": [entry.digest for entry in recent],
        "goes_on": turns.goes_on,
        "summary": summary.state(),
        "shown": turns.summary is not None,
        "model": model,
        "learned": ledger.learned(counted),
    }
