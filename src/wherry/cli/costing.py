"""`wherry cost`: who spent what, in a run or since a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from wherry.cli.ending import Exit, print_json
from wherry.cli.history import find_run
from wherry.cli.moments import moment
from wherry.errors import ConfigurationError, StoreError
from wherry.journal import read_events
from wherry.messages import Usage
from wherry.observe.costs import Costs, aligned
from wherry.store import Store, open_store

_PAGE = 500


def print_cost(run: str | None, *, since: str | None, as_json: bool) -> Exit:
    """A table by agent and model, and one by tool.

    Raises:
        ConfigurationError: neither a run nor a time, or both, or a time that is none.
        RunNotFound: no run's id begins like that, or several do.
    """
    if (run is None) == (since is None):
        raise ConfigurationError(
            "give a run, or --since" if run is None else "a run and --since were given",
            hint="`wherry cost RUN`, or `wherry cost --since 7d`",
        )
    costs, runs, pruned = Costs(), 0, 0
    store = open_store()
    try:
        if run is not None:
            for run_id in _tree(store, find_run(store, run).run_id):
                runs += 1
                for event in read_events(store, run_id):
                    costs(event)
        else:
            for run_id in _started_since(store, moment(since or "")):
                runs += 1
                try:
                    for event in read_events(store, run_id):
                        costs(event)
                except StoreError:
                    pruned += 1
    finally:
        store.close()
    if as_json:
        print_json(_json(costs, runs, pruned))
        return Exit.DONE
    for line in aligned(costs.rows()):
        sys.stdout.write(f"{line}\n")
    if costs.tools:
        sys.stdout.write("\n")
        for line in aligned(costs.tool_rows(), left=1):
            sys.stdout.write(f"{line}\n")
    if run is None:
        gone = f", {pruned:,} of them without a readable journal" if pruned else ""
        sys.stdout.write(f"\n{runs:,} runs, summaries and managed agents included{gone}\n")
    return Exit.DONE


def _tree(store: Store, run_id: str) -> Iterator[str]:
    """A run and all runs below it, those that wrote summaries too."""
    yield run_id
    for row in store.runs(parent=run_id, limit=1 << 31):
        yield from _tree(store, row.run_id)


def _started_since(store: Store, earliest: float) -> Iterator[str]:
    """The ids of all runs since then, those that agents started too; newest first."""
    before: float | None = None
    seen: set[str] = set()
    while True:
        page = store.runs(limit=_PAGE, children=True, before=before)
        fresh = [row for row in page if row.run_id not in seen]
        for row in fresh:
            if row.started < earliest:
                return
            seen.add(row.run_id)
            yield row.run_id
        if len(page) < _PAGE or not fresh:
            return
        # Not below the last one's time: runs that began in the same instant stand on the next page.
        before = page[-1].started + 1e-6


def _json(costs: Costs, runs: int, pruned: int) -> dict[str, object]:
    return {
        "runs": runs,
        "unreadable": pruned,
        "agents": [{"agent": agent, "model": model, **_usage(usage)} for (agent, model), usage in costs.spent.items()],
        "tools": [
            {
                "tool": name,
                "calls": tool.calls,
                "failed": tool.failed,
                "seconds": round(tool.seconds, 6),
                "usd": None if tool.usd is None else str(tool.usd),
            }
            for name, tool in costs.tools.items()
        ],
        "total": _usage(costs.total),
    }


def _usage(usage: Usage) -> dict[str, object]:
    return dict(usage.to_json())
