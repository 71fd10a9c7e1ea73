"""Who spent what: one row per agent and model, added up from the events of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from wherry.journal import Event, EventType
from wherry.messages import Usage
from wherry.observe.visible import visible

HEADER = ("agent", "model", "requests", "input", "cached", "output", "tool calls", "model s", "USD")
TOOLS_HEADER = ("tool", "calls", "failed", "seconds", "USD")


@dataclass(slots=True)
class ToolSpending:
    """What one tool, or one managed agent, was called for."""

    calls: int = 0
    failed: int = 0
    seconds: float = 0.0
    usd: Decimal | None = Decimal(0)
    """What a managed agent's runs cost; tools cost nothing that is known here."""


class Costs:
    """A subscriber that adds up. Takes the same time and, but for new agents, the same room for every event."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str], Usage] = {}
        self._models: dict[str, str] = {}
        """Run id -> the model that it began with."""
        self.tools: dict[str, ToolSpending] = {}
        """By name, managed agents among them."""

    def __call__(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case EventType.RUN_STARTED:
                self._models[event.run_id] = str(payload["model"])
                self._add(event, Usage())
            case EventType.MODEL_REQUESTED:
                self._add(event, Usage(requests=1))
            case EventType.MODEL_REPLIED:
                used = Usage.from_json(payload["usage"])
                self._add(
                    event, replace(used, requests=used.requests - 1)
                )  # counted when it was asked; kept ones not at all
            case EventType.TOOL_CALLED | EventType.AGENT_CALLED:
                self._add(event, Usage(tool_calls=1))
                self._tool(payload).calls += 1
            case EventType.TOOL_RETURNED:
                tool = self._tool(payload)
                tool.failed += not payload.get("ok", True)
                tool.seconds += payload.get("seconds", 0)
            case EventType.AGENT_RETURNED:
                told = payload.get("usage")
                tool, usage = self._tool(payload), Usage() if told is None else Usage.from_json(told)
                tool.failed += payload.get("status") != "completed"
                tool.seconds += usage.seconds
                tool.usd = None if tool.usd is None or usage.usd is None else tool.usd + usage.usd
            case EventType.RUN_FINISHED:
                self._models.pop(event.run_id, None)
            case _:
                pass

    def _add(self, event: Event, usage: Usage) -> None:
        key = (event.agent, self._models.get(event.run_id, ""))
        self._spent[key] = self._spent.get(key, Usage()) + usage

    def _tool(self, payload: Mapping[str, Any]) -> ToolSpending:  # Any: JSON
        return self.tools.setdefault(str(payload.get("name", "?")), ToolSpending())

    @property
    def spent(self) -> Mapping[tuple[str, str], Usage]:
        """By agent and model, in the order in which they appeared."""
        return self._spent

    @property
    def total(self) -> Usage:
        return sum(self._spent.values(), Usage())

    def rows(self) -> list[tuple[str, ...]]:
        """The header, a row per agent and model in the order in which they appeared, and the total."""
        rows = [HEADER]
        rows += [(agent, model, *_numbers(usage)) for (agent, model), usage in self._spent.items()]
        rows.append(("total", "", *_numbers(self.total)))
        return rows

    def tool_rows(self) -> list[tuple[str, ...]]:
        """The header, and a row per tool or managed agent; what was called most stands first."""
        by_calls = sorted(self.tools.items(), key=lambda item: -item[1].calls)
        rows = [TOOLS_HEADER]
        rows += [
            (visible(name), f"{t.calls:,}", f"{t.failed:,}", f"{t.seconds:,.1f}", dollars(t.usd))
            for name, t in by_calls
        ]
        return rows


def aligned(rows: Sequence[Sequence[str]], *, left: int = 2, gap: str = "  ") -> Iterable[str]:
    """The rows as text: the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield gap.join(cells).rstrip()


def dollars(usd: Decimal | None) -> str:
    """`?` where a price is unknown: no sum claims more than is known."""
    if usd is None:
        return "?"
    return "0" if usd == 0 else f"{usd:.4f}" if usd >= Decimal("0.0001") else "<0.0001"


def _numbers(usage: Usage) -> tuple[str, ...]:
    return (
        f"{usage.requests:,}",
        f"{usage.input_tokens:,}",
        f"{usage.cached_tokens:,}",
        f"{usage.output_tokens:,}",
        f"{usage.tool_calls:,}",
        f"{usage.seconds:,.1f}",
        dollars(usage.usd),
    )
