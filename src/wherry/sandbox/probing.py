"""Which tiers work here. Found out by doing it, once a process: a tier works if a session of it computes something."""

from __future__ import annotations

import atexit
import errno
import math
import os
import re
import sys
import threading
from dataclasses import dataclass
from time import monotonic as _now

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
_starting: list[JailSandbox] = []
_refusals: dict[str, tuple[float, SandboxUnavailable]] = {}
"""Tiers that do not work here, even with the usual limits, and until when that is believed."""
_MOMENT_SECONDS = 60.0
_MOMENTARY = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
_MOMENTARY_TEXT = re.compile(rf"\[Errno ({'|'.join(map(str, _MOMENTARY))})\]|timed out")
"""As the launcher says it, which is another process."""


def probe() -> ProbeReport:
    """Try every tier. The answers are kept for the life of the process; those for want of memory or time, a minute."""
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
        refusal = _refusal(name)
        if refusal is not None:
            raise refusal
        sandbox = _jails[key] = _try(name, limits, packages)
        return sandbox


def _refusal(name: str) -> SandboxUnavailable | None:
    until, error = _refusals.get(name, (0.0, None))
    return error if _now() < until else None


def _strongest(limits: SandboxLimits, packages: PackageSet | None) -> JailSandbox:
    refusals: list[SandboxUnavailable] = []
    for name in JAILS:
        try:
            return get_jail(name, limits, packages)
        except SandboxUnavailable as error:
            if _refusal(name) is None:  # the tier works; the packages or the limits do not
                raise
            refusals.append(error)
    raise SandboxUnavailable("; ".join(error.message for error in refusals), hint=refusals[0].hint)


def _try(name: str, limits: SandboxLimits, packages: PackageSet | None) -> JailSandbox:
    sandbox: JailSandbox | None = None
    try:
        check_linux()
        sandbox = JailSandbox(name, limits, packages=packages)
        _starting.append(sandbox)  # a copy of the host that is forked now must let go of it too
        try:
            sandbox.wait_until_up()
            sandbox.check()
        finally:
            _starting.remove(sandbox)
    except SandboxError as error:
        if sandbox is not None:
            sandbox.close_now()
        if packages is not None:
            get_jail(name, limits)  # if it is not the packages' fault, this says so
            shown = ", ".join(packages.modules)
            raise SandboxUnavailable(f"no sandbox can be had with the packages {shown}: {error.message}") from error
        if limits != SandboxLimits():
            get_jail(name, SandboxLimits())  # if it is not the limits' fault, this says so
            raise SandboxUnavailable(
                f"the sandbox tier `{name}` works here, but not with these limits: {error.message}",
                hint="see `SandboxLimits`; the host's own limits (`ulimit -Ha`) may be lower",
            ) from error
        hint = error.hint if isinstance(error, SandboxUnavailable) else None
        refusal = SandboxUnavailable(
            f"the sandbox tier `{name}` does not work here: {error.message}", hint=hint or _ways_out()
        )
        _refusals[name] = _now() + (_MOMENT_SECONDS if _momentary(error) else math.inf), refusal
        raise refusal from error
    return sandbox


def _momentary(error: BaseException) -> bool:
    """Whether the machine may simply have had too much to do."""
    cause = error.__cause__
    if isinstance(cause, TimeoutError | MemoryError) or (isinstance(cause, OSError) and cause.errno in _MOMENTARY):
        return True
    return _MOMENTARY_TEXT.search(str(error)) is not None


def _ways_out() -> str:
    ways = ["allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone,"
            " kernel.apparmor_restrict_unprivileged_userns)"]  # fmt: skip
    ways.append('or, only for code that you would run yourself, sandbox="unsafe"')
    return "; ".join(ways)


def _forget() -> None:
    """A forked copy of the host must start its own launchers; those that it inherited are its parent's."""
    global _lock  # noqa: PLW0603  # the fork left it as it was
    _lock = threading.RLock()  # another thread may have held the old one at the fork, and is not here
    for sandbox in [*_jails.values(), *_starting]:
        sandbox.forget()
    _jails.clear()
    _starting.clear()


def _close_all() -> None:
    for sandbox in [*_jails.values(), *_starting]:
        sandbox.close_now()
    _jails.clear()


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_forget)
atexit.register(_close_all)
