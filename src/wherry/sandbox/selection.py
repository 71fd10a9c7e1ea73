"""From what a user writes as `sandbox=` to a sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.errors import ConfigurationError

from .limits import SandboxLimits
from .packages import package_set
from .probe import TIERS, get_jail
from .protocol import Sandbox
from .unsafe import UnsafeSandbox


def get_sandbox(name: str = "auto", *, limits: SandboxLimits | None = None, packages: Sequence[str] = ()) -> Sandbox:
    """The sandbox of a tier, shared in the process by all who ask for the same limits and packages.

    Args:
        name: a tier, or `auto`: the strongest that works here. `unsafe` is never chosen, only named.
        limits: what sessions may use; None: the defaults.
        packages: what snippets may import beyond the standard library, by import name (`numpy`) or distribution
            (`scikit-learn>=1.3`). They are installed into a folder of their own when they are first asked for.

    Raises:
        SandboxUnavailable: it cannot run here, or the packages cannot be had; the message says what failed.
        ConfigurationError: no tier has that name, or a package's name is none.
    """
    limits = limits or SandboxLimits()
    if name == "wasm":
        from .wasm import wasm_sandbox

        return wasm_sandbox(limits, packages)
    if name == "docker" or name.startswith("docker:"):
        from .docker import docker_sandbox

        return docker_sandbox(name.removeprefix("docker").removeprefix(":"), limits, package_set(packages))
    if name != "auto" and name not in TIERS:
        raise ConfigurationError(f"no sandbox tier is named {name!r}", hint=f"one of: auto, {', '.join(TIERS)}")
    found = package_set(packages)
    if name == "unsafe":
        return UnsafeSandbox(limits, packages=found)
    return get_jail(name, limits, found)
