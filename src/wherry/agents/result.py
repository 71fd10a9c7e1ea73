"""What a run gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wherry.messages import Usage

if TYPE_CHECKING:
    from wherry.policy.approvals import Approval


class RunStatus(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    MAX_STEPS = "max_steps"
    """The steps ran out; `output` is the model's last word, no completed answer."""
    LIMIT = "limit"
    WAITING = "waiting"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that the run's code made or changed in its work folder; kept in the store as an artifact."""

    name: str
    """Its path there. It comes from code that a model wrote: show it, never open it."""
    ref: str
    """`store.artifacts.read(ref)` has the content."""
    bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome of one run. `str(result)` is the output."""

    output: Any  # Any: of the agent's `output_type`, or whatever the model answered
    status: RunStatus
    run_id: str
    _: KW_ONLY
    usage: Usage
    """Of the whole tree: managed agents included."""
    steps: int
    reason: str = ""
    """Why it ended before it was done, in words: the limit that was reached, the steps that ran out."""
    pending: Sequence[Approval] = ()
    """What it waits for, if it does: `resume` goes on when that is decided."""
    warnings: Sequence[str] = ()
    files: Sequence[ResultFile] = ()
    """What a code agent's snippets left in the work folder, each file in its last state."""

    def __str__(self) -> str:
        return self.output if isinstance(self.output, str) else str(self.output)
