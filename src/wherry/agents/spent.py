"""What a run has spent, by its own records and those of all runs below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from wherry.agents.metering import UNKNOWN_ENDINGS
from wherry.agents.past import Past, Payload
from wherry.errors import StoreError
from wherry.journal import Event, EventType, read_events
from wherry.messages import Usage
from wherry.store import Store

_ALL = 1 << 31


@dataclass(slots=True)
class _Sum:
    """Of one run."""

    used: Usage = field(default_factory=Usage)
    charged: Usage = field(default_factory=Usage)
    asked: Payload | None = None
    """Payload of the request that nothing is known of yet."""
    calls: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])

    def take(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case EventType.MODEL_REQUESTED:
                self.lost()
                self.asked = payload
            case EventType.MODEL_REPLIED:
                self.asked = None
                self.book(Usage.from_json(payload["usage"]))
            case EventType.MODEL_FAILED:
                if payload.get("kind") in UNKNOWN_ENDINGS:
                    self.lost()
                elif self.asked is not None or "kind" in payload:
                    self.asked = None
                    self.book(Usage(requests=1))
            case EventType.TOOL_CALLED | EventType.AGENT_CALLED:
                self.calls.add((payload["step"], payload["call"]))
            case EventType.TOOL_RETURNED if payload.get("ended") == "limit":
                self.calls.discard((payload["step"], payload["call"]))
            case EventType.APPROVAL_REQUESTED if payload.get("kind") != "unknown":
                self.calls.discard((payload.get("step", 0), payload.get("call", "")))
            case EventType.APPROVAL_DECIDED if payload.get("approved"):
                self.calls.add((payload.get("step", 0), payload.get("call", "")))
            case _:
                pass

    def book(self, used: Usage, charged: Usage | None = None) -> None:
        self.used += used
        self.charged += used if charged is None else charged

    def lost(self) -> None:
        """Nobody knows what the last request came to: all that it might have taken counts against the limits."""
        if self.asked is None:
            return
        most = Usage(1, self.asked["tokens"], 0, self.asked["max_output"], usd=None)
        self.asked = None
        self.book(Usage(requests=1, usd=None), most)


def spent(store: Store, past: Past) -> tuple[Usage, Usage]:
    """What a run that is to go on has used, as far as it is known, and what counts against its limits."""
    return _spent(store, past.run_id, past.events)


def _spent(store: Store, run_id: str, events: list[Event]) -> tuple[Usage, Usage]:
    total = _Sum()
    for event in events:
        total.take(event)
    total.lost()
    total.book(Usage(tool_calls=len(total.calls)))
    for row in store.runs(parent=run_id, limit=_ALL):
        if row.finished is not None and row.usage is not None:
            used = Usage.from_json(row.usage)
            total.book(_without_time(used))
        else:
            try:
                used, charged = _spent(store, row.run_id, [*read_events(store, row.run_id)])
            except StoreError:
                continue  # it was killed before it recorded anything
            total.book(used, charged)
    return _without_time(total.used), _without_time(total.charged)


def _without_time(usage: Usage) -> Usage:
    """Seconds of a run are those of a clock, not a sum."""
    return Usage(
        usage.requests,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.tool_calls,
        0.0,
        usage.usd if usage.usd is not None else Decimal(0),
    )
