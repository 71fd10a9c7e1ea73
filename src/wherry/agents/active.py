"""The runs under way in this process, so that they can be cancelled by id from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

import anyio

_lock = threading.Lock()
_runs: dict[str, tuple[asyncio.AbstractEventLoop, anyio.CancelScope]] = {}


@contextmanager
def cancellable(run_id: str) -> Generator[anyio.CancelScope]:
    """A scope that `cancel(run_id)` cancels."""
    with anyio.CancelScope() as scope:
        with _lock:
            _runs[run_id] = (asyncio.get_running_loop(), scope)
        try:
            yield scope
        finally:
            with _lock:
                del _runs[run_id]


def cancel(run_id: str) -> bool:
    """Cancel a run; whether there was one of that id."""
    with _lock:
        held = _runs.get(run_id)
        if held is None:
            return False
        held[0].call_soon_threadsafe(held[1].cancel)
        return True
