"""What happens in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias


class EventType(StrEnum):
    """The kinds of events. The values are what the store holds."""

    RUN_STARTED = "run.started"
    RUN_RESUMED = "run.resumed"
    """The run goes on after whatever ended or interrupted it; `run.finished` may come again."""
    MODEL_REQUESTED = "model.requested"
    MODEL_REPLIED = "model.replied"
    MODEL_FAILED = "model.failed"
    MODEL_DELTA = "model.delta"
    """A piece of a reply as it comes. Told to subscribers that want it, never kept: its `seq` is 0."""
    TOOL_CALLED = "tool.called"
    TOOL_RETURNED = "tool.returned"
    CODE_STARTED = "code.started"
    CODE_FINISHED = "code.finished"
    CONTEXT_OFFLOADED = "context.offloaded"
    CONTEXT_COMPACTED = "context.compacted"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_DECIDED = "approval.decided"
    TOOLS_CHANGED = "tools.changed"
    PROMPT_CHANGED = "prompt.changed"
    MODEL_CHANGED = "model.changed"
    POLICY_CHANGED = "policy.changed"
    PLAN_MADE = "plan.made"
    LIMIT_REACHED = "limit.reached"
    AGENT_CALLED = "agent.called"
    AGENT_RETURNED = "agent.returned"
    SPEAKER_CHOSEN = "speaker.chosen"
    """Of a group chat: who speaks in the next round."""
    WARNING = "warning"
    RUN_FINISHED = "run.finished"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, once."""

    run_id: str
    parent_run_id: str | None
    agent: str
    seq: int
    """From 1, without gaps, in one run; 0 for one that is only told."""
    time: float
    """Unix time in seconds."""
    type: EventType
    payload: Mapping[str, Any]  # Any: JSON, its keys depend on the type


Subscriber: TypeAlias = Callable[[Event], None]
"""Called with every event of a tree of runs as it happens, by the thread that recorded it. It must be quick."""
