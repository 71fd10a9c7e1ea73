"""The same worker without a jail: a plain process with limits, for the tier `unsafe`."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import NoReturn

from . import kernel, worker

_MOST = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the host sends first."""

    memory_bytes: int
    cpu_seconds: int
    disk_bytes: int
    descriptors: int
    stdout_bytes: int
    packages: str = ""
    """A folder that is importable, beside the standard library."""
    modules: tuple[str, ...] = ()
    program: str = ""
    """A seccomp program in hexadecimal, for a container."""
    seccomp: int = -1
    """The number of the call that installs it."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Options:
        raw = json.loads(data)
        raw["modules"] = tuple(raw["modules"])
        return cls(**raw)


def main(descriptor: int) -> NoReturn:
    kernel.prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    data = os.read(descriptor, _MOST)  # small, sent at once, and nothing follows before our greeting
    if not data:
        os._exit(1)
    options = Options.decode(data)
    if options.packages:
        sys.path.append(options.packages)
    with open("/proc/self/statm", encoding="ascii") as statm:
        baseline = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for name, value in (
        (resource.RLIMIT_AS, baseline + options.memory_bytes),
        (resource.RLIMIT_CPU, options.cpu_seconds),
        (resource.RLIMIT_FSIZE, options.disk_bytes),
        (resource.RLIMIT_NOFILE, options.descriptors),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))
    os.environ["TMPDIR"] = os.getcwd()
    tempfile.tempdir = None
    os.write(descriptor, worker.GREETING)
    worker.serve(descriptor, stdout_bytes=options.stdout_bytes, packages=options.modules)
