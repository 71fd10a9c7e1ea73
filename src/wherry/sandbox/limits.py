"""How much a sandboxed session may use."""

from __future__ import annotations

from dataclasses import dataclass, fields

from wherry.errors import ConfigurationError

MIB = 1 << 20
_BOUNDS: dict[str, tuple[float, float]] = {
    "wall_seconds": (0.01, 1e9),
    "cpu_seconds": (1, 1 << 30),
    "memory_bytes": (MIB, 1 << 46),
    "disk_bytes": (64 << 10, 1 << 40),
    "inodes": (2, 1 << 31),
    "descriptors": (8, 1 << 16),
    "threads": (1, 1 << 15),
    "stdout_bytes": (100, 16 * MIB),
    "tool_calls": (1, 1 << 30),
}
"""Below, no session starts, or none that can do anything; above, kernels take no such number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Bounds of one session; all are always on.

    Raises:
        ConfigurationError: a limit is no positive number, or none with which a session can be made.
    """

    wall_seconds: float = 30.0
    """A snippet's time. It does not run while the host answers a tool call."""
    cpu_seconds: int = 120
    """A session's processor time, all its snippets and threads together."""
    memory_bytes: int = 512 * MIB
    """Address space over what the interpreter itself needs."""
    disk_bytes: int = 64 * MIB
    """All files of a session together, and each one."""
    inodes: int = 2048
    """How many files and folders a session may have."""
    descriptors: int = 64
    threads: int = 16
    """Threads of a session, the main one included."""
    stdout_bytes: int = 64_000
    """What is kept of a snippet's standard output; head and tail are kept, the middle goes."""
    tool_calls: int = 100
    """Calls that a snippet may make."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name != "wall_seconds"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value > 0:
                kind = "a positive whole number" if whole else "a positive number"
                raise ConfigurationError(f"SandboxLimits: `{field.name}` must be {kind}, got {value!r}")
            least, most = _BOUNDS[field.name]
            if not least <= value <= most:
                raise ConfigurationError(
                    f"SandboxLimits: `{field.name}` must be between {least:,} and {most:,}, got {value!r}"
                )
        if self.stdout_bytes + 1024 > self.disk_bytes:  # what is printed is kept in a file of memory, with its length
            raise ConfigurationError(
                f"SandboxLimits: `stdout_bytes` may be at most `disk_bytes` - 1,024,"
                f" which is {self.disk_bytes - 1024:,}; got {self.stdout_bytes:,}"
            )
