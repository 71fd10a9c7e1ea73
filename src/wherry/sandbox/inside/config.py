"""What the host tells the launcher: one record, sent as JSON. The only module here that the host imports."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JailConfig:
    """One kind of session: every session of a launcher is alike."""

    namespaces: bool
    """False in the `landlock` tier."""
    host_maps_ids: bool
    """The host is root and writes the id maps, so that no payload is the kernel's root."""
    scratch: str
    """An empty folder of the host's: the new root is mounted on it, or the work folders are made in it."""
    memory_bytes: int
    cpu_seconds: int
    disk_bytes: int
    inodes: int
    descriptors: int
    threads: int
    stdout_bytes: int
    program: str
    """The seccomp program in hexadecimal."""
    numbers: dict[str, int]
    """System call numbers of this machine, by name."""
    packages: str = ""
    """A folder that is importable inside, beside the standard library."""
    preload: tuple[str, ...] = ()
    """Modules imported once, before any session."""
    modules: tuple[str, ...] = ()
    """Of the packages: imported once too, and named to a model that imports one that is not there."""

    groups: tuple[str, ...] = ()
    """What the paths of the sessions' control groups begin with; those that are left go with the launcher."""

    without: tuple[str, ...] = ()
    """Layers left out, of those that `inside/` asks for by name here.

    No option of anybody's: the tests show with it that each layer holds something back."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> JailConfig:
        raw = json.loads(data)
        for name in ("preload", "modules", "groups", "without"):
            raw[name] = tuple(raw[name])
        return cls(**raw)
