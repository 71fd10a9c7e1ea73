"""The tiers `namespaces` and `landlock`: sessions from a launcher that locks them up."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wherry.errors import SandboxUnavailable
from wherry.messages import JSON

from . import inputs
from .inside.config import JailConfig
from .limits import SandboxLimits
from .packages import PackageSet
from .seccomp import compile_filter
from .session import WorkerSession
from .zygote import RESERVE, Zygote

PRELOAD = tuple(
    """
    collections contextlib copy csv dataclasses datetime decimal difflib enum fractions functools inspect itertools
    json math random re statistics string textwrap traceback typing uuid
    """.split()  # noqa: SIM905  # one name a line would be a page
)
"""What most snippets import; loading it once saves each session some 30 ms."""
_NOBODY = 65534


class JailSandbox:
    """See `Sandbox`. The launcher is started at once and lives until `close`."""

    def __init__(
        self,
        tier: str,
        limits: SandboxLimits,
        *,
        packages: PackageSet | None = None,
        reserve: int = RESERVE,
        without: Iterable[str] = (),  # for tests; see `JailConfig.without`
    ) -> None:
        self.tier = tier
        self._limits = limits
        namespaces = tier == "namespaces"
        program = compile_filter(namespaces=namespaces)
        config = JailConfig(
            namespaces=namespaces,
            host_maps_ids=namespaces and os.geteuid() == 0 and _maps_nobody(),
            scratch="",
            memory_bytes=limits.memory_bytes,
            cpu_seconds=limits.cpu_seconds,
            disk_bytes=limits.disk_bytes,
            inodes=limits.inodes,
            descriptors=limits.descriptors,
            threads=limits.threads,
            stdout_bytes=limits.stdout_bytes,
            program=program.code.hex(),
            numbers=program.numbers,
            packages=str(packages.folder) if packages else "",
            preload=PRELOAD,
            modules=packages.modules if packages else (),
            without=tuple(without),
        )
        self._zygote = Zygote(config, program.names, reserve=reserve)
        self._sessions: weakref.WeakSet[WorkerSession] = weakref.WeakSet()

    def wait_until_up(self) -> None:
        """Block until the launcher is up.

        Raises:
            SandboxUnavailable: it cannot be.
        """
        self._zygote.started().result()

    @property
    def closed(self) -> bool:
        return self._zygote.closing

    def check(self) -> None:
        """Make a session and throw it away.

        Raises:
            SandboxError: it could not be made.
        """
        self._zygote.take().result().kill()

    async def open(
        self, *, tools: Sequence[str], variables: Mapping[str, JSON] | None = None, files: Sequence[Path] = ()
    ) -> WorkerSession:
        """See `Sandbox.open`."""
        inputs.check_names(tools, "tool")
        inputs.check_names(list(variables or ()), "variable")
        frames = inputs.variable_frames(variables or {})
        found = inputs.find_files(files, self._limits)
        link = await asyncio.wrap_future(self._zygote.take())
        session = WorkerSession(link, tier=self.tier, limits=self._limits, tools=tools)
        self._sessions.add(session)
        await session.fill(frames, found)
        return session

    async def close(self) -> None:
        """See `Sandbox.close`."""
        for session in list(self._sessions):
            session.kill()
        await asyncio.to_thread(self._zygote.close)

    def close_now(self) -> None:
        self._zygote.close()

    def forget(self) -> None:
        """In a forked copy of the host."""
        self._zygote.forget()


def _maps_nobody() -> bool:
    """Whether this user namespace has the id that payloads are to have; a container's often has not."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            ranges = [[int(part) for part in line.split()] for line in file]
        if not any(first <= _NOBODY < first + count for first, _, count in ranges):
            return False
    return True


def check_linux() -> None:
    if not hasattr(os, "pidfd_open"):
        raise SandboxUnavailable("the jail needs Linux", hint="run in a Linux virtual machine or container")
