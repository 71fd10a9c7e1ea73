"""Counts for `/metrics`, in Prometheus' text format: written here, for it is a dozen lines and the client a package."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_MOST_SERIES = 10_000

_HELP = {
    "requests_total": ("counter", "Requests by key, path and status."),
    "tokens_total": ("counter", "Tokens by key and direction."),
    "upstream_failures_total": ("counter", "Failures of upstreams by kind and what was done."),
    "changed_total": ("counter", "Requests that were changed to fit, by what was done."),
    "limited_total": ("counter", "Requests that a limit refused, by key and limit."),
    "cut_total": ("counter", "Connections that were cut, by reason."),
    "journal_errors_total": ("counter", "Failures to write the journal."),
    "in_flight": ("gauge", "Requests under way."),
    "waiting": ("gauge", "Requests that wait for room at their upstream."),
    "window_tokens": ("gauge", "The context length that requests are held to."),
    "request_seconds": ("histogram", "Seconds from a request's arrival to the end of its reply."),
    "own_seconds": ("histogram", "Seconds of these that the proxy took before it asked."),
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What has happened so far. One event loop's."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], float] = {}
        self._seconds: dict[str, tuple[list[int], list[float]]] = {
            name: ([0] * (len(BUCKETS) + 1), [0.0]) for name, (kind, _) in _HELP.items() if kind == "histogram"
        }

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(labels.items()))
        if key not in self._values and len(self._values) >= _MOST_SERIES:
            key = (name, (("key", "others"),))
        self._values[key] = self._values.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Say how it stands now."""
        self._values[name, tuple(labels.items())] = value

    def observe(self, name: str, seconds: float) -> None:
        """Add to a histogram."""
        counts, total = self._seconds[name]
        counts[bisect_left(BUCKETS, seconds)] += 1
        total[0] += seconds

    def value(self, name: str, **labels: str) -> float:
        """Of one series; 0 where nothing was counted."""
        return self._values.get((name, tuple(labels.items())), 0)

    def text(self) -> str:
        """All of it."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, (kind, about) in _HELP.items():
            yield f"# HELP wherry_guard_{name} {about}"
            yield f"# TYPE wherry_guard_{name} {kind}"
            if kind == "histogram":
                yield from self._histogram(name)
                continue
            for (series, labels), value in self._values.items():
                if series == name:
                    yield f"wherry_guard_{name}{_written(labels)} {value:g}"

    def _histogram(self, name: str) -> Iterator[str]:
        counts, total = self._seconds[name]
        so_far = 0
        for bound, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
            so_far += count
            yield f'wherry_guard_{name}_bucket{{le="{bound}"}} {so_far}'
        yield f"wherry_guard_{name}_sum {total[0]:.6f}"
        yield f"wherry_guard_{name}_count {so_far}"


def _written(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
