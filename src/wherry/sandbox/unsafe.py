"""The tier `unsafe`: the same worker as a plain process, for those who write `sandbox="unsafe"`.

It keeps limits and stops snippets; it protects nothing. Whoever chooses it warns its user on every run.
"""

from __future__ import annotations

import functools
import socket

from .child_link import ChildLink, WorkPlace, greet
from .children import ChildSandbox
from .inside.bare import Options
from .launch import spawn
from .limits import SandboxLimits
from .packages import PackageSet

WARNING = "this code runs without a sandbox, with all that this user may do; it was asked for by name"


class UnsafeSandbox(ChildSandbox):
    """See `Sandbox`. Every session is a process of the user's, with all that the user may do."""

    def __init__(self, limits: SandboxLimits, *, packages: PackageSet | None = None) -> None:
        super().__init__("unsafe", limits, functools.partial(_start, limits, packages))


def _start(limits: SandboxLimits, packages: PackageSet | None) -> ChildLink:
    place = WorkPlace()
    ours, theirs = socket.socketpair()
    with theirs:
        process, complaints = spawn("bare", theirs.fileno(), cwd=place.path)
    link = ChildLink(ours, process, place)
    options = Options(
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
        disk_bytes=limits.disk_bytes,
        descriptors=limits.descriptors,
        stdout_bytes=limits.stdout_bytes,
        packages=str(packages.folder) if packages else "",
        modules=packages.modules if packages else (),
    )
    with complaints:
        greet(link, options.encode(), complaints)
    return link
