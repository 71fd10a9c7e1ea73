"""What this machine can do for a sandbox: the tiers, the layers that they are made of, limits, control groups."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from wherry.errors import WherryError
from wherry.sandbox import SandboxLimits, probe
from wherry.sandbox.docker import look
from wherry.sandbox.inside import landlock
from wherry.sandbox.launch import interpreter
from wherry.sandbox.monty import monty_sandbox
from wherry.sandbox.packages import PackageSet, package_sets
from wherry.sandbox.seccomp import compile_filter
from wherry.sandbox.wasm import compiled_in, wasm_sandbox

_NAMESPACES = {"mount": 0x00020000, "pid": 0x20000000, "ipc": 0x08000000, "net": 0x40000000, "uts": 0x04000000,
               "cgroup": 0x02000000}  # fmt: skip
_USER = 0x10000000
_TRY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for flags in map(int, sys.argv[1:]):
    if libc.unshare(flags) < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
"""
_SWITCHES = (
    ("user/max_user_namespaces", "0"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
)
"""Settings under /proc/sys, and the value that forbids user namespaces to ordinary users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A tier on this machine."""

    name: str
    works: bool
    note: str
    """Why not, or what to know of it."""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A thing of the kernel's that walls are made of."""

    name: str
    works: bool
    note: str
    """Which version it is, or why it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxReport:
    """Everything that decides which sandbox code gets on this machine."""

    auto: str | None
    """The tier that `sandbox="auto"` takes; None: there is none, and agents that write code cannot be made."""
    tiers: tuple[Tier, ...]
    layers: tuple[Layer, ...]
    limits: Mapping[str, int | float]
    """Of a session, where nothing else was asked for."""
    packages: tuple[PackageSet, ...]


def examine_sandbox() -> SandboxReport:
    """Look at all of it; takes a second or two, changes nothing, downloads nothing."""
    probed = probe()
    jails = [
        Tier(name=tier.name, works=tier.available, note=tier.reason, hint=tier.hint)
        for tier in probed.tiers
        if tier.name != "unsafe"
    ]
    limits = SandboxLimits()
    others = [
        _tier("docker", lambda: f"with the image {look()}; its walls are looked at when it is first used"),
        _tier("wasm", lambda: str(wasm_sandbox(limits, ()) and f"with {len(compiled_in())} packages compiled in")),
        _tier("monty", lambda: str(monty_sandbox(limits, ()) and "a part of Python only")),
        Tier(name="unsafe", works=True, note="no walls at all; only if asked for by name"),
    ]
    return SandboxReport(
        auto=probed.best,
        tiers=(*jails, *others),
        layers=tuple(_layers()),
        limits=asdict(limits),
        packages=tuple(package_sets()),
    )


def _tier(name: str, attempt: Callable[[], str]) -> Tier:
    try:
        return Tier(name=name, works=True, note=attempt())
    except WherryError as error:
        return Tier(name=name, works=False, note=error.message, hint=error.hint or "")


def _layers() -> list[Layer]:
    if sys.platform != "linux":
        return [Layer(name="kernel", works=False, note=f"{platform.system()}: the jail needs Linux")]
    return [
        _kernel(),
        _user_namespaces(),
        *(_namespace(name, flag) for name, flag in _NAMESPACES.items()),
        _landlock(),
        _libseccomp(),
        _notification(),
        _control_groups(),
    ]


def _kernel() -> Layer:
    release = platform.release()
    found = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    enough = found >= (5, 12)  # mount_setattr: the youngest call that the namespaces tier cannot do without
    return Layer(name="kernel", works=enough, note=release if enough else f"{release}: 5.12 is needed")


def _user_namespaces() -> Layer:
    refused = _attempt(_USER)
    if not refused:
        return Layer(name="user namespaces", works=True, note="")
    switches = [f"{name.replace('/', '.')} = {value}" for name, value in _SWITCHES if _setting(name) == value]
    return Layer(name="user namespaces", works=False, note="; ".join([refused, *switches]))


def _namespace(name: str, flag: int) -> Layer:
    refused = _attempt(_USER, flag)
    return Layer(name=f"{name} namespace", works=not refused, note=refused)


def _attempt(*flags: int) -> str:
    """Make namespaces in a process of its own; empty if that worked."""
    command = [interpreter(), "-I", "-S", "-c", _TRY, *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip()[-200:] or f"exit code {done.returncode}")


def _setting(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text("ascii").strip()
    except OSError:
        return None


def _landlock() -> Layer:
    version = landlock.abi()
    if version >= 4:
        note = f"version {version}"
    elif version:
        note = f"version {version}: enough behind namespaces; the tier landlock needs 4 (Linux 6.7)"
    else:
        note = "the kernel has none (Linux 5.13 has it, if `landlock` is in its list of security modules)"
    return Layer(name="Landlock", works=version >= 1, note=note)


def _libseccomp() -> Layer:
    try:
        compile_filter(namespaces=True)
    except WherryError as error:
        return Layer(name="system call filter", works=False, note=error.message)
    return Layer(name="system call filter", works=True, note="made with libseccomp")


def _notification() -> Layer:
    actions = _setting("kernel/seccomp/actions_avail")
    if actions is None or "user_notif" in actions.split():
        return Layer(name="notification of refused calls", works=True, note="")
    return Layer(name="notification of refused calls", works=False, note="the kernel's seccomp has no `user_notif`")


def _control_groups() -> Layer:
    """Not a wall of the jail's, whose limits hold without: a second bound for all of a process's children together."""
    name = "control groups"
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return Layer(name=name, works=False, note="no version 2 is mounted; the limits hold without")
    try:
        own = next(
            line.split("::", 1)[1].strip()
            for line in Path("/proc/self/cgroup").read_text("ascii").splitlines()
            if "::" in line
        )
    except (OSError, StopIteration):
        return Layer(name=name, works=False, note="this process is in none; the limits hold without")
    folder = Path("/sys/fs/cgroup", own.lstrip("/"))
    try:
        controllers = folder.joinpath("cgroup.controllers").read_text("ascii").split()
    except OSError as error:
        return Layer(name=name, works=False, note=f"{own}: {error.strerror}; the limits hold without")
    missing = [wanted for wanted in ("memory", "pids") if wanted not in controllers]
    if missing:
        return Layer(name=name, works=False, note=f"{own} has no {' and no '.join(missing)}; the limits hold without")
    if not os.access(folder, os.W_OK):
        return Layer(name=name, works=False, note=f"{own} is not this user's to write; the limits hold without")
    return Layer(name=name, works=True, note=f"version 2, {own} can be written")
