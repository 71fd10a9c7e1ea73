"""What a window held at a request, by digests: an interrupted run goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wherry.context.groups import entries_of
from wherry.context.summary import Summary
from wherry.context.turns import Turns
from wherry.messages import JSON, Message


@dataclass(frozen=True, slots=True)
class Left:
    """A window as an interrupted run left it."""

    snapshot: Mapping[str, Any]  # Any: JSON, as `snapshot_of` made it
    told: Sequence[str]
    """Digests of what was appended since then."""
    read: Callable[[Sequence[str]], Mapping[str, Message]]
    """Reads kept messages by their digests."""

    @property
    def digests(self) -> list[str]:
        """Of all messages that it held, but for the summary."""
        shot = self.snapshot
        return [shot["task"], *shot["older"], *shot["recent"], *self.told]


def snapshot_of(turns: Turns, summary: Summary) -> JSON:
    """O(window): made for the first request and after each compaction, which took in as much as it lists."""
    return {
        "task": turns.task.digest,
        "older": [entry.digest for entry in entries_of(turns.older)],
        "recent": [entry.digest for entry in entries_of(turns.recent)],
        "goes_on": turns.goes_on,
        "summary": summary.state(),
        "shown": turns.summary is not None,
    }
