"""The sandbox: real CPython in a real jail.

Code that a model wrote is hostile code. Each layer has its reason beside it: `inside/` is what builds the jail and runs
in it, `seccomp` the system call filter, `zygote` the forked server, `session` what an event loop sees, `frames` the
wire.
"""

from __future__ import annotations

from .files import Collected, OutputFile
from .frames import MAX_FRAME, FrameError
from .limits import SandboxLimits
from .packages import PackageSet, package_set
from .probe import TIERS, ProbeReport, TierReport, probe
from .protocol import Conditions, Execution, ExecutionKind, Sandbox, Session, ToolHandler
from .rebuild import Answers, Rebuilt, RecordedCall, RecordedSnippet, rebuild
from .selection import NAMES, get_sandbox, importable

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
