"""From what a user writes as `sandbox=` to a sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.errors import ConfigurationError

from .limits import SandboxLimits
from .protocol import Sandbox
from .tiers import JAILS

NAMES = ("auto", *JAILS, "docker", "docker:IMAGE", "wasm", "monty", "unsafe")
"""What `sandbox=` may be."""


def get_sandbox(name: str = "auto", *, limits: SandboxLimits | None = None, packages: Sequence[str] = ()) -> Sandbox:
    """The sandbox of a tier, shared in the process by all who ask for the same limits and packages.

    Args:
        name: one of `NAMES`. `auto` takes the strongest jail that works here, and never anything else.
        limits: what sessions may use; None: the defaults.
        packages: what snippets may import beyond the standard library, by import name (`numpy`) or distribution
            (`scikit-learn>=1.3`). They are installed into a folder of their own when they are first asked for.

    Raises:
        SandboxUnavailable: it cannot run here, or the packages cannot be had; the message says what failed.
        MissingExtra: a tier of that name needs an extra that is not installed.
        ConfigurationError: no tier has that name, or a package cannot be had in it.
    """
    # Each tier loads when it is first asked for: importing an agent's class should not load them all.
    from .packages import package_set

    limits = limits or SandboxLimits()
    tier, _, image = name.partition(":")
    match tier:
        case "wasm" if not image:
            from .wasm import wasm_sandbox

            return wasm_sandbox(limits, packages)
        case "monty" if not image:
            from .monty import monty_sandbox

            return monty_sandbox(limits, packages)
        case "docker":
            from .docker import docker_sandbox

            return docker_sandbox(image, limits, package_set(packages))
        case "unsafe" if not image:
            from .unsafe import UnsafeSandbox

            return UnsafeSandbox(limits, packages=package_set(packages))
        case _ if name == "auto" or name in JAILS:
            from .probing import get_jail

            return get_jail(name, limits, package_set(packages))
        case _:
            raise ConfigurationError(f"no sandbox tier is named {name!r}", hint=f"one of: {', '.join(NAMES)}")


def importable(sandbox: str | Sandbox, packages: Sequence[str]) -> tuple[str, ...]:
    """The modules that a model is told of, beyond the standard library.

    Args:
        sandbox: as `CodeAgent` gets it.
        packages: what the user asked for.

    Raises:
        ConfigurationError: packages were asked for of a sandbox object, which has what it has.
    """
    if not packages:
        return ()
    from .package_names import requirements
    from .packages import package_set

    wanted = requirements(packages)
    if not wanted:
        return ()
    if not isinstance(sandbox, str):
        raise ConfigurationError(
            "authorized_imports are for the tiers of wherry; a sandbox object of your own has its own packages",
            hint="leave `authorized_imports` empty, and say in `instructions` what can be imported",
        )
    if sandbox == "wasm":
        return tuple(requirement.module or requirement.asked for requirement in wanted)
    found = package_set(packages)
    return found.modules if found is not None else ()
