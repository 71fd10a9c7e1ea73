"""Which tiers work here. Found out by doing it, once a process: a tier works if a session of it computes something."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from dataclasses import dataclass

from wherry.errors import SandboxError, SandboxUnavailable

from .jail import JailSandbox, check_linux
from .limits import SandboxLimits
from .packages import PackageSet
from .tiers import JAILS, TIERS


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


_lock = threading.RLock()
_jails: dict[tuple[str, SandboxLimits, str], JailSandbox] = {}
_refusals: dict[str, SandboxUnavailable] = {}


def probe() -> ProbeReport:
    """Try every tier; the answers are kept for the life of the process."""
    reports: list[TierReport] = []
    for name in TIERS:
        try:
            if name in JAILS:
                get_jail(name, SandboxLimits())
            reports.append(TierReport(name, True, ""))
        except SandboxUnavailable as error:
            reports.append(TierReport(name, False, error.message, error.hint or ""))
    return ProbeReport(tuple(reports))


def get_jail(name: str, limits: SandboxLimits, packages: PackageSet | None = None) -> JailSandbox:
    """The jail of a tier, shared in the process by all who ask for the same limits and packages.

    Args:
        name: one of the tiers above, or `auto`: the strongest that works here.
        limits: what sessions may use.
        packages: what they may import beyond the standard library.

    Raises:
        SandboxUnavailable: it cannot run here; the message says what failed.
    """
    with _lock:
        if name == "auto":
            return _strongest(limits, packages)
        key = (name, limits, packages.key if packages else "")
        known = _jails.get(key)
        if known is not None and not known.closed:
            return known
        if name in _refusals:
            raise _refusals[name]
        sandbox = _jails[key] = _try(name, limits, packages)
        return sandbox


def _strongest(limits: SandboxLimits, packages: PackageSet | None) -> JailSandbox:
    refusals: list[SandboxUnavailable] = []
    for name in JAILS:
        try:
            return get_jail(name, limits, packages)
        except SandboxUnavailable as error:
            if name not in _refusals:  # the tier works; the packages do not
                raise
            refusals.append(error)
    raise SandboxUnavailable("; ".join(error.message for error in refusals), hint=refusals[0].hint)


def _try(name: str, limits: SandboxLimits, packages: PackageSet | None) -> JailSandbox:
    sandbox: JailSandbox | None = None
    try:
        check_linux()
        sandbox = JailSandbox(name, limits, packages=packages)
        sandbox.wait_until_up()
        sandbox.check()
    except SandboxError as error:
        if sandbox is not None:
            sandbox.close_now()
        if packages is not None:
            get_jail(name, limits)  # if it is not the packages' fault, this says so
            shown = ", ".join(packages.modules)
            raise SandboxUnavailable(f"no sandbox can be had with the packages {shown}: {error.message}") from error
        hint = error.hint if isinstance(error, SandboxUnavailable) else None
        _refusals[name] = SandboxUnavailable(
            f"the sandbox tier `{name}` does not work here: {error.message}", hint=hint or _ways_out()
        )
        raise _refusals[name] from error
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
