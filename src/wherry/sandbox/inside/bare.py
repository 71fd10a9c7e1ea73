"""The same worker without a jail: a plain process with limits, for the tier `unsafe`."""

from __future__ import annotations

import os
import resource
import signal
import struct
import tempfile
from typing import NoReturn

from . import kernel, worker

_OPTIONS = struct.Struct("!QQQQQ")


def pack(*, memory_bytes: int, cpu_seconds: int, disk_bytes: int, descriptors: int, stdout_bytes: int) -> bytes:
    """What the host sends first."""
    return _OPTIONS.pack(memory_bytes, cpu_seconds, disk_bytes, descriptors, stdout_bytes)


def main(descriptor: int) -> NoReturn:
    kernel.prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    options = os.read(descriptor, _OPTIONS.size)
    if len(options) < _OPTIONS.size:
        os._exit(1)
    memory, cpu, disk, descriptors, stdout_bytes = _OPTIONS.unpack(options)
    with open("/proc/self/statm", encoding="ascii") as statm:
        baseline = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for name, value in (
        (resource.RLIMIT_AS, baseline + memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, disk),
        (resource.RLIMIT_NOFILE, descriptors),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))
    os.environ["TMPDIR"] = os.getcwd()
    tempfile.tempdir = None
    os.write(descriptor, worker.GREETING)
    worker.serve(descriptor, stdout_bytes=stdout_bytes, packages=False)
