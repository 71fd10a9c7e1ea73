"""A sandbox whose sessions are child processes of the host that run our worker, one process each."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import inputs
from .limits import SandboxLimits
from .links import ProcessLink
from .session import WorkerSession


class ChildSandbox:
    """See `Sandbox`."""

    def __init__(self, tier: str, limits: SandboxLimits, start: Callable[[], ProcessLink]) -> None:
        """Args:
        tier: its name.
        limits: of each session.
        start: starts a process, in a thread, and comes back when its worker has said that it is ready.
        """
        self.tier = tier
        self._limits = limits
        self._start = start
        self._sessions: weakref.WeakSet[WorkerSession] = weakref.WeakSet()

    async def open(
        self, *, tools: Sequence[str], variables: Mapping[str, Any] | None = None, files: Sequence[Path] = ()
    ) -> WorkerSession:
        """See `Sandbox.open`."""
        inputs.check_names(tools, "tool")
        inputs.check_names(list(variables or ()), "variable")
        frames = inputs.variable_frames(variables or {})
        found = inputs.find_files(files, self._limits)
        link = await asyncio.to_thread(self._start)
        session = WorkerSession(link, tier=self.tier, limits=self._limits, tools=tools)
        self._sessions.add(session)
        await session.fill(frames, found)
        return session

    async def close(self) -> None:
        """See `Sandbox.close`."""
        for session in list(self._sessions):
            session.kill()
