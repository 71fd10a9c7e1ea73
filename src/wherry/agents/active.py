"""What is under way in this process: runs, to be cancelled by id from any thread, and sessions, one run at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from wherry.errors import ConfigurationError
from wherry.store import Store

_lock = threading.Lock()
_runs: dict[str, tuple[asyncio.AbstractEventLoop, anyio.CancelScope]] = {}
_sessions: set[tuple[str, str]] = set()


@contextmanager
def cancellable(run_id: str, *, seconds: float | None = None) -> Generator[anyio.CancelScope]:
    """A scope that `cancel(run_id)` cancels, and the clock after so many `seconds`."""
    with anyio.CancelScope() as scope:
        if seconds is not None:
            scope.deadline = anyio.current_time() + seconds
        with _lock:
            _runs[run_id] = (asyncio.get_running_loop(), scope)
        try:
            yield scope
        finally:
            with _lock:
                del _runs[run_id]


def under_way(run_id: str) -> bool:
    """Whether this process has a run of that id under way."""
    with _lock:
        return run_id in _runs


def cancel(run_id: str) -> bool:
    """Cancel a run; whether there was one of that id."""
    with _lock:
        held = _runs.get(run_id)
        if held is None:
            return False
        held[0].call_soon_threadsafe(held[1].cancel)
        return True


@contextmanager
def in_session(store: Store, session: str | None) -> Generator[None]:
    """Hold a session for one run: two at once would each go on from the same point, and lose one another's turns.

    Raises:
        ConfigurationError: another run of this process is under way in it.
    """
    if session is None:
        yield
        return
    where = store.url if not store.url.startswith("memory:") else f"memory {id(store)}"
    key = (where, session)
    with _lock:
        if key in _sessions:
            raise ConfigurationError(
                f"the session {session!r} has a run under way", hint="wait for it, or use another session"
            )
        _sessions.add(key)
    try:
        yield
    finally:
        with _lock:
            _sessions.discard(key)
