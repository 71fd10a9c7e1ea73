"""The tier `unsafe`: the same worker as a plain process, for those who write `sandbox="unsafe"`.

It keeps limits and stops snippets; it protects nothing. Whoever chooses it warns its user on every run.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wherry.errors import SandboxError
from wherry.messages import JSON

from . import inputs
from .inside.bare import Options
from .launch import read_complaints, spawn
from .limits import SandboxLimits
from .links import Exit, Link
from .packages import PackageSet
from .session import WorkerSession

_START_SECONDS = 10.0


class UnsafeSandbox:
    """See `Sandbox`. Every session is a process of the user's, with all that the user may do."""

    tier = "unsafe"

    def __init__(self, limits: SandboxLimits, *, packages: PackageSet | None = None) -> None:
        self._limits = limits
        self._packages = packages
        self._sessions: weakref.WeakSet[WorkerSession] = weakref.WeakSet()

    async def open(
        self, *, tools: Sequence[str], variables: Mapping[str, JSON] | None = None, files: Sequence[Path] = ()
    ) -> WorkerSession:
        """See `Sandbox.open`."""
        inputs.check_names(tools, "tool")
        inputs.check_names(list(variables or ()), "variable")
        frames = inputs.variable_frames(variables or {})
        found = inputs.find_files(files, self._limits)
        link = await asyncio.to_thread(_start, self._limits, self._packages)
        session = WorkerSession(link, tier=self.tier, limits=self._limits, tools=tools)
        self._sessions.add(session)
        await session.fill(frames, found)
        return session

    async def close(self) -> None:
        """See `Sandbox.close`."""
        for session in list(self._sessions):
            session.kill()


def _start(limits: SandboxLimits, packages: PackageSet | None) -> Link:
    folder = tempfile.mkdtemp(prefix="wherry-")
    clean = functools.partial(_remove, folder)
    atexit.register(clean)  # the thread below may not come to it when the host ends first
    ours, theirs = socket.socketpair()
    with theirs:
        process, complaints = spawn("bare", theirs.fileno(), cwd=folder)
    link = Link(ours, os.pidfd_open(process.pid))
    # Its own thread: the tier is for trying out, and the folder must go whenever and however the process ends.
    threading.Thread(target=_reap, args=(process, link, clean), name="wherry-unsafe", daemon=True).start()
    ours.settimeout(_START_SECONDS)
    try:
        options = Options(
            memory_bytes=limits.memory_bytes,
            cpu_seconds=limits.cpu_seconds,
            disk_bytes=limits.disk_bytes,
            descriptors=limits.descriptors,
            stdout_bytes=limits.stdout_bytes,
            packages=str(packages.folder) if packages else "",
            modules=packages.modules if packages else (),
        )
        ours.sendall(options.encode())
        greeting = ours.recv(64)
    except OSError:
        greeting = b""
    with complaints:
        if not greeting:
            link.kill()
            raise SandboxError(f"the process did not start: {read_complaints(complaints)}")
    ours.setblocking(False)
    return link


def _reap(process: subprocess.Popen[bytes], link: Link, clean: Callable[[], object]) -> None:
    code = process.wait()
    link.exit.set_result(Exit(code))
    clean()
    atexit.unregister(clean)


def _remove(folder: str) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # folders a thousand deep: rmtree recursed until Python 3.13
        subprocess.run(["rm", "-rf", folder], check=False)
