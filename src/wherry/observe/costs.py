"""Who spent what: one row per agent and model, added up from the events of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from wherry.journal import Event, EventType
from wherry.messages import Usage

HEADER = ("agent", "model", "requests", "input", "cached", "output", "tool calls", "model s", "USD")


class Costs:
    """A subscriber that adds up. Takes the same time and, but for new agents, the same room for every event."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str], Usage] = {}
        self._models: dict[str, str] = {}
        """Run id -> the model that it began with."""

    def __call__(self, event: Event) -> None:
        payload = event.payload
        match event.type:
            case EventType.RUN_STARTED:
                self._models[event.run_id] = str(payload["model"])
                self._add(event, Usage())
            case EventType.MODEL_REPLIED:
                self._add(event, Usage.from_json(payload["usage"]))
            case EventType.MODEL_FAILED:
                # A request all the same. What it cost, if anything, is not known; failures are not charged as a rule.
                self._add(event, Usage(requests=1))
            case EventType.TOOL_CALLED | EventType.AGENT_CALLED:
                self._add(event, Usage(tool_calls=1))
            case EventType.RUN_FINISHED:
                self._models.pop(event.run_id, None)
            case _:
                pass

    def _add(self, event: Event, usage: Usage) -> None:
        key = (event.agent, self._models.get(event.run_id, ""))
        self._spent[key] = self._spent.get(key, Usage()) + usage

    @property
    def total(self) -> Usage:
        return sum(self._spent.values(), Usage())

    def rows(self) -> list[tuple[str, ...]]:
        """The header, a row per agent and model in the order in which they appeared, and the total."""
        rows = [HEADER]
        rows += [(agent, model, *_numbers(usage)) for (agent, model), usage in self._spent.items()]
        rows.append(("total", "", *_numbers(self.total)))
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
