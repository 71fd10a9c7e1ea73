"""The same worker in a container. First it says what holds there: the host need not believe what it asked for."""

from __future__ import annotations

import _thread
import ctypes
import json
import os
import resource
import select
import stat
import struct
import sys
import tempfile
from typing import Any, NoReturn

from . import kernel, worker
from .bare import Options
from .channel import Channel, Interrupts

_MOST = 1 << 18
_SECCOMP_SET_MODE_FILTER = 1
_CGROUPS = {
    "memory": ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "pids": ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
}
"""Version 2, then version 1."""


def main(descriptor: int) -> NoReturn:
    """Args:
    descriptor: of what comes from the host; what goes there leaves by standard output.
    """
    options = Options.decode(_line(descriptor))
    work = os.getcwd()
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
    os.environ.clear()
    os.environ.update(HOME=work, TMPDIR=work, PATH="/nonexistent", LANG="C.UTF-8", OPENBLAS_NUM_THREADS="1")
    tempfile.tempdir = None
    filtered = _install_filter(bytes.fromhex(options.program), options.seccomp)
    findings = json.dumps({**_findings(work), "filtered": filtered}).encode("ascii") + b"\n"
    source, sink = os.dup(descriptor), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):  # what C code prints must not come between the frames
        os.dup2(null, standard)
    os.close(null)
    _write(sink, findings)
    _thread.start_new_thread(_watch, (source,))
    channel = Channel(source, Interrupts(), output=sink)
    worker.serve(channel, stdout_bytes=options.stdout_bytes, packages=options.modules)


def _line(descriptor: int) -> bytes:
    """Byte by byte: what follows is a frame, and for another reader."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte or len(line) > _MOST:
            os._exit(1)
        line += byte
    return bytes(line)


def _install_filter(program: bytes, number: int) -> bool:
    """The jail's own filter: engines' are wider, and a network namespace does not cover vsock.

    Nobody listens to what it refuses: the kernel then answers "no such call".
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
    try:
        kernel.syscall("seccomp", number, _SECCOMP_SET_MODE_FILTER, 0, header)
    except OSError:  # without no-new-privileges, for one; the host is told, and goes no further
        return False
    return True


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _findings(work: str) -> dict[str, Any]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open("/proc/self/net/dev", encoding="ascii") as file:
        links = [line.split(":")[0].strip() for line in file if ":" in line]
    files = os.statvfs(work)
    return {
        "python": list(sys.version_info[:2]),
        "uid": os.getuid(),
        "capabilities": max(int(status.get(name, "1"), 16) for name in ("CapEff", "CapPrm", "CapBnd")),
        "no_new_privileges": status.get("NoNewPrivs") == "1",
        "network": sorted(set(links) - {"lo"}),
        "read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
        "disk": files.f_blocks * files.f_frsize,
        "inodes": files.f_files,
        "own_folder": stat.S_ISDIR(os.stat(work).st_mode) and os.stat(work).st_dev != os.stat("/").st_dev,
        **{name: _limit(paths) for name, paths in _CGROUPS.items()},
    }


def _limit(paths: tuple[str, ...]) -> int | None:
    """None: nobody says that there is one."""
    for path in paths:
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
        except OSError:
            continue
        return None if text == "max" else int(text)
    return None


def _watch(descriptor: int) -> None:
    """End with the host, also while a snippet computes and nobody reads."""
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-up and errors are always told
    poll.poll()
    os._exit(0)
