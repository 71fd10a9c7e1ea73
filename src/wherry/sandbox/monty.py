"""The tier `monty`: pydantic-monty, an interpreter of a part of Python, for short glue code.

There is no CPython in it, no file, no import beyond a few modules, no class that inherits: what does not exist needs no
wall. Each session is a worker process of its own, so that one that crashes or hangs takes nobody along.
"""

from __future__ import annotations

import contextlib
import os
import signal
import weakref
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from wherry.errors import ConfigurationError, MissingExtra, SandboxError

from . import inputs
from .files import Collected
from .limits import SandboxLimits
from .monty_feed import TIER, Feed, inward
from .package_names import requirements
from .protocol import Conditions, Execution, ToolHandler

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, AsyncMontySession

_SPARE_SECONDS = 0.5
"""The interpreter looks at its clock from time to time; one that does not look is killed."""


class MontySandbox:
    """See `Sandbox`."""

    tier = TIER

    def __init__(self, limits: SandboxLimits) -> None:
        """Raises:
        MissingExtra: the extra `monty` is not installed.
        """
        if find_spec("pydantic_monty") is None:
            raise MissingExtra('sandbox="monty"', "monty")
        self._limits = limits
        self._sessions: weakref.WeakSet[MontySession] = weakref.WeakSet()

    async def open(
        self, *, tools: Sequence[str], variables: Mapping[str, Any] | None = None, files: Sequence[Path] = ()
    ) -> MontySession:
        """See `Sandbox.open`. Files cannot be had: there are none in there."""
        inputs.check_names(tools, "tool")
        inputs.check_names(list(variables or ()), "variable")
        inputs.variable_frames(variables or {})  # the same values are refused as elsewhere
        try:
            known = {name: inward(value) for name, value in (variables or {}).items()}
        except TypeError as error:
            raise ConfigurationError(f"a variable cannot be had: {error}", hint="give plain data") from error
        if files:
            raise ConfigurationError(
                "the sandbox tier `monty` has no files", hint="give the data as `inputs`, or take another tier"
            )
        session = MontySession(self._limits, tools)
        await session.start(known)
        self._sessions.add(session)
        return session

    async def close(self) -> None:
        """See `Sandbox.close`."""
        for session in list(self._sessions):
            await session.close()


def monty_sandbox(limits: SandboxLimits, packages: Sequence[str]) -> MontySandbox:
    """Raises:
    MissingExtra: the extra `monty` is not installed.
    ConfigurationError: packages were asked for.
    """
    wanted = requirements(packages)
    if wanted:
        shown = ", ".join(requirement.asked for requirement in wanted)
        raise ConfigurationError(f"the sandbox tier `monty` has no packages ({shown})", hint="take another tier")
    return MontySandbox(limits)


class MontySession:
    """See `Session`."""

    tier = TIER

    def __init__(self, limits: SandboxLimits, tools: Sequence[str]) -> None:
        self._limits = limits
        self._tools = list(tools)
        self._stack = contextlib.AsyncExitStack()
        self._session: AsyncMontySession | None = None
        self._pid: int | None = None
        self._current: Feed | None = None
        self._left = float(limits.cpu_seconds)

    @property
    def alive(self) -> bool:
        return self._session is not None

    async def start(self, variables: Mapping[str, Any]) -> None:
        """Start the worker and put in the variables.

        Raises:
            SandboxError: it does not start.
        """
        import pydantic_monty

        limits = self._limits
        try:
            pool: AsyncMonty = await self._stack.enter_async_context(
                pydantic_monty.AsyncMonty(max_processes=1, feed_duration_limit_grace=_SPARE_SECONDS)
            )
            checkout = pool.checkout(
                limits={
                    "max_feed_duration_secs": float(limits.wall_seconds),
                    "max_memory": limits.memory_bytes,
                    "max_total_sleep_secs": float(limits.wall_seconds),
                },
                os_policy={"sleep_system_max": float(limits.wall_seconds)},
            )
            self._session = await self._stack.enter_async_context(checkout)
            self._pid = self._session.worker_pid
            # Nothing inherits in there, so a tool's failure is of the nearest type that exists.
            await self._session.feed_run("ToolError = RuntimeError", inputs=dict(variables))
        except (pydantic_monty.MontyError, OSError, RuntimeError) as error:
            await self.close()
            raise SandboxError(f"the worker of `monty` did not start: {error}") from error

    async def run(
        self,
        code: str,
        *,
        call_tool: ToolHandler,
        tools: Sequence[str] | None = None,
        conditions: Conditions | None = None,
    ) -> Execution:
        """See `Session.run`. There are no conditions: chance and clocks are the worker's own."""
        if self._session is None:
            raise SandboxError("the session is dead", hint="open a new one; its variables are lost")
        if self._current is not None:
            raise SandboxError("the session runs another snippet", hint="await it, or open a second session")
        if tools is not None:
            self._tools = list(tools)
        feed = self._current = Feed(self._session, self._limits, tuple(self._tools), call_tool, self._kill, self._left)
        try:
            execution = await feed.perform(code)
        except BaseException:
            with anyio.CancelScope(shield=True):  # nothing in there can be asked to stop
                self._kill()
                await self.close()
            raise
        finally:
            self._current = None
            self._left -= feed.executed()
        if feed.dead:
            await self.close()
        return execution

    def interrupt(self) -> None:
        """See `Session.interrupt`. The session ends with it."""
        if self._current is not None:
            self._current.interrupted = True
            self._kill()

    async def collect_files(self) -> Collected:
        """See `Session.collect_files`. There are none."""
        return Collected()

    async def close(self) -> None:
        """See `Session.close`."""
        self._session = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        with contextlib.suppress(Exception):  # a worker that is dead already
            await stack.aclose()

    def _kill(self) -> None:
        if self._pid is not None:
            pid, self._pid = self._pid, None
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
