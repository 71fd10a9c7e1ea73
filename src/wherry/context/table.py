"""The error for a request that cannot be made to fit: who takes how much, and what to change."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.errors import ContextBudgetError

_ADVICE = {
    "system prompt": "shorten the instructions, or give fewer worked examples",
    "tool schemas": "give the agent fewer tools, or shorten their descriptions",
    "task": "pass large inputs as `inputs=` or `files=` instead of in the task",
    "newest messages": "lower ContextBudget(per_message=...)",
    "reserved output": "lower ContextBudget(reserve_output=...) or the model's max_output",
}


def budget_error(parts: Mapping[str, int], window: int, *, run_id: str) -> ContextBudgetError:
    """`parts` are tokens by name, reserved output and safety margin included."""
    total = sum(parts.values())
    rows = [*parts.items(), ("together", total), ("window", window), ("too many", total - window)]
    table = "\n".join(f"  {name:<18}{tokens:>12,}" for name, tokens in rows)
    largest = max((name for name in parts if name in _ADVICE), key=lambda name: parts[name])
    return ContextBudgetError(
        f"the request does not fit the model's window of {window:,} tokens; no call was made\n{table}",
        hint=f"most is taken by the {largest}: {_ADVICE[largest]}; or use a model with a larger window, "
        "and say so with ContextBudget(window=...)",
        run_id=run_id,
        diagnosis={"kind": "ContextBudget", "parts": dict(parts), "together": total, "window": window},
    )
