"""Which tiers work here. Found out by doing it, once a process: a tier works if a session of it computes something."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.errors import ConfigurationError, SandboxError, SandboxUnavailable

from .jail import JailSandbox, check_linux
from .limits import SandboxLimits
from .protocol import Sandbox
from .unsafe import UnsafeSandbox

TIERS = ("namespaces", "unsafe")
"""In the order in which `auto` tries them; `unsafe` it never tries."""


@dataclass(frozen=True, slots=True)
class TierReport:
    name: str
    available: bool
    reason: str
    """Why not; empty if available."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    tiers: tuple[TierReport, ...]

    @property
    def best(self) -> str | None:
        """The tier that `auto` takes; None if there is none."""
        return next((tier.name for tier in self.tiers if tier.available and tier.name != "unsafe"), None)


_Key = tuple[str, SandboxLimits]
_lock = threading.RLock()
_jails: dict[_Key, JailSandbox] = {}
_refusals: dict[str, SandboxUnavailable] = {}


def probe() -> ProbeReport:
    """Try every tier; the answers are kept for the life of the process."""
    reports: list[TierReport] = []
    for name in TIERS:
        try:
            get_sandbox(name)
            reports.append(TierReport(name, True, ""))
        except SandboxUnavailable as error:
            reports.append(TierReport(name, False, error.message, error.hint or ""))
    return ProbeReport(tuple(reports))


def get_sandbox(name: str = "auto", *, limits: SandboxLimits | None = None, packages: Sequence[str] = ()) -> Sandbox:
    """The sandbox of a tier, shared in the process by all who ask for the same limits.

    Args:
        name: a tier, or `auto`: the strongest that works here. `unsafe` is never chosen, only named.
        limits: what sessions may use; None: the defaults.
        packages: must be empty in this version.

    Raises:
        SandboxUnavailable: it cannot run here; the message says what failed.
        ConfigurationError: no tier has that name, or packages were asked for.
    """
    limits = limits or SandboxLimits()
    if packages:
        raise ConfigurationError(
            f"packages {', '.join(packages)} cannot be imported in the sandbox: it has the standard library only",
            hint="give the agent a tool that uses the package, or leave `authorized_imports` empty",
        )
    if name == "unsafe":
        return UnsafeSandbox(limits)
    if name == "auto":
        name = TIERS[0]
    if name not in TIERS:
        raise ConfigurationError(f"no sandbox tier is named {name!r}", hint=f"one of: auto, {', '.join(TIERS)}")
    with _lock:
        return _jail(name, limits)


def _jail(name: str, limits: SandboxLimits) -> JailSandbox:
    known = _jails.get((name, limits))
    if known is not None and not known.closed:
        return known
    if name in _refusals:
        raise _refusals[name]
    try:
        sandbox = _try(name, limits)
    except SandboxUnavailable as error:
        error.hint = error.hint or _ways_out()
        _refusals[name] = error
        raise
    _jails[name, limits] = sandbox
    return sandbox


def _try(name: str, limits: SandboxLimits) -> JailSandbox:
    check_linux()
    sandbox = JailSandbox(name, limits)
    try:
        sandbox.wait_until_up()
        sandbox.check()
    except SandboxError as error:
        sandbox.close_now()
        hint = error.hint if isinstance(error, SandboxUnavailable) else None
        raise SandboxUnavailable(f"the sandbox tier `{name}` does not work here: {error.message}", hint=hint) from error
    return sandbox


def _ways_out() -> str:
    ways = ["allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone,"
            " kernel.apparmor_restrict_unprivileged_userns)"]  # fmt: skip
    ways.append('or, only for code that you would run yourself, sandbox="unsafe"')
    return "; ".join(ways)


def _forget() -> None:
    """A forked copy of the host must start its own launchers; those that it inherited are its parent's."""
    for sandbox in _jails.values():
        sandbox.forget()
    _jails.clear()


def _close_all() -> None:
    for sandbox in list(_jails.values()):
        sandbox.close_now()
    _jails.clear()


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_forget)
atexit.register(_close_all)
