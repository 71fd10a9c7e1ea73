"""The sandbox: real CPython in a real jail.

Code that a model wrote is hostile code. Each layer has its reason beside it: `inside/` is what builds the jail and runs
in it, `seccomp` the system call filter, `zygote` the forked server, `session` what an event loop sees, `frames` the
wire.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .limits import SandboxLimits
from .protocol import Conditions, Execution, ExecutionKind, Sandbox, Session, ToolHandler
from .selection import NAMES, get_sandbox, importable

if TYPE_CHECKING:
    from .files import Collected, OutputFile
    from .frames import MAX_FRAME, FrameError
    from .packages import PackageSet, package_set
    from .probing import ProbeReport, TierReport, probe
    from .rebuilding import Answers, Rebuilt, RecordedCall, RecordedSnippet, rebuild
    from .tiers import TIERS

__all__ = [
    "MAX_FRAME",
    "NAMES",
    "TIERS",
    "Answers",
    "Collected",
    "Conditions",
    "Execution",
    "ExecutionKind",
    "FrameError",
    "OutputFile",
    "PackageSet",
    "ProbeReport",
    "Rebuilt",
    "RecordedCall",
    "RecordedSnippet",
    "Sandbox",
    "SandboxLimits",
    "Session",
    "TierReport",
    "ToolHandler",
    "get_sandbox",
    "importable",
    "package_set",
    "probe",
    "rebuild",
]

_HOMES = {
    "Answers": "rebuilding",
    "Collected": "files",
    "FrameError": "frames",
    "MAX_FRAME": "frames",
    "OutputFile": "files",
    "PackageSet": "packages",
    "ProbeReport": "probing",
    "Rebuilt": "rebuilding",
    "RecordedCall": "rebuilding",
    "RecordedSnippet": "rebuilding",
    "TIERS": "tiers",
    "TierReport": "probing",
    "package_set": "packages",
    "probe": "probing",
    "rebuild": "rebuilding",
}
"""What loads when it is first named."""


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
