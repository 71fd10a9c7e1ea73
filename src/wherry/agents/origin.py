"""How an agent was made, where a command made it: recorded with the run, so that a command can make it again."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_origin: ContextVar[Mapping[str, str | None] | None] = ContextVar("wherry_origin", default=None)


def origin() -> dict[str, str | None]:
    """What `made_by` says here; empty where nothing does."""
    return dict(_origin.get() or {})


@contextmanager
def made_by(said: Mapping[str, str | None]) -> Generator[None]:
    """Let the runs that are started inside say how their agent was made: `agent`, `model`, `kind`, as on a command
    line."""
    token = _origin.set(said)
    try:
        yield
    finally:
        _origin.reset(token)
