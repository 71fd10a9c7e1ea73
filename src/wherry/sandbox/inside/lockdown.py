"""The last steps before a session runs what a model wrote. In order: what cannot be undone comes last.

Each step is refused by nobody's code but the kernel's, and each failure ends the session before it began.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import socket
import struct
import threading
from dataclasses import dataclass

from . import kernel, landlock
from .config import JailConfig
from .output import shared_size

SOCKET = 3
"""The one descriptor, beside the three standard ones on /dev/null, that a session keeps."""
_FOLDER = 4
"""The work folder, until it was handed to the host."""
_OUTPUT = 5
"""The memory that holds what a snippet prints, until it was handed to the host."""
_ADD_SEALS, _SEALS = 1033, 0x1 | 0x2 | 0x4  # seal, shrink, grow
_SECCOMP_SET_MODE_FILTER = 1
_NEW_LISTENER = 8
_NPROC_PER_NAMESPACE = (5, 14)
_LAYERS = {
    "threads": resource.RLIMIT_NPROC,
    "file-size": resource.RLIMIT_FSIZE,
    "descriptors": resource.RLIMIT_NOFILE,
    "cpu": resource.RLIMIT_CPU,
    "locked-memory": resource.RLIMIT_MEMLOCK,
    "queues": resource.RLIMIT_MSGQUEUE,
    "signals": resource.RLIMIT_SIGPENDING,
}
"""What the tests call them, which leave them out one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is the same for all sessions of a launcher."""

    namespaces: bool
    limits: dict[int, int]
    memory_bytes: int
    output_bytes: int
    without: tuple[str, ...]
    program: bytes
    seccomp: int
    """The number of that system call."""
    read: list[str]


def plan(config: JailConfig, *, read: list[str]) -> Plan:
    """Args:
    read: what sessions may read.
    """
    limits = {
        resource.RLIMIT_CPU: config.cpu_seconds,
        resource.RLIMIT_FSIZE: config.disk_bytes,
        resource.RLIMIT_NOFILE: config.descriptors,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,
    }
    # Counted a user namespace since Linux 5.14; before, and without, all of the user's processes would count.
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if config.namespaces and release >= _NPROC_PER_NAMESPACE:
        limits[resource.RLIMIT_NPROC] = config.threads
    for layer, name in _LAYERS.items():
        if layer in config.without:
            limits.pop(name, None)
    return Plan(
        namespaces=config.namespaces,
        limits=limits,
        memory_bytes=config.memory_bytes,
        output_bytes=shared_size(config.stdout_bytes),
        without=config.without,
        program=bytes.fromhex(config.program),
        seccomp=config.numbers["seccomp"],
        read=read,
    )


def lock(sock: int, plan: Plan, *, work: str, baseline: int) -> tuple[int, memoryview]:
    """Give up everything but the socket.

    Args:
        sock: the session's socket; it is moved to descriptor 3.
        plan: what holds for every session.
        work: the only folder that may be written.
        baseline: address space in use, in bytes.

    Returns:
        The descriptor that tells of refused system calls, for the host; -1 without the filter. And the memory that
        the host shares, for what snippets print.
    """
    threading.stack_size(1 << 20)  # the default of 8 MiB of address space a thread would eat the memory limit
    # Address space is the one measure that works without cgroups and leaves the session alive: the allocation fails,
    # the snippet gets a MemoryError. RLIMIT_DATA would miss shared anonymous memory.
    space = baseline + plan.memory_bytes
    if "memory" not in plan.without:
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    for name, value in plan.limits.items():
        resource.setrlimit(name, (value, value))
    _close_descriptors(sock)
    os.environ.clear()  # C code keeps its own copy: it was started with an empty environment
    os.environ.update(HOME=work, TMPDIR=work, PATH="/nonexistent", LANG="C.UTF-8", OPENBLAS_NUM_THREADS="1")
    os.chdir(work)
    if os.open(".", os.O_RDONLY | os.O_DIRECTORY) != _FOLDER:
        raise OSError("the work folder has another descriptor than it should")
    memory = _share(plan.output_bytes)
    if "capabilities" not in plan.without:
        kernel.drop_capabilities()
    if "no-new-privileges" not in plan.without:
        # No set-uid program can give anything back; and without it the kernel takes no filter from the unprivileged.
        kernel.prctl("no_new_privs", kernel.PR_SET_NO_NEW_PRIVS, 1)
    # No other process of the same user reads its memory or traces it: not a session, and nothing that fools one.
    kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1 if "dumpable" in plan.without else 0)
    if "landlock" not in plan.without:
        version = landlock.restrict(read=plan.read, write=[work, "/dev/null"])
        if version < 4 and not plan.namespaces:
            raise OSError(f"Landlock version {version}; without namespaces 4 is needed")
    return (-1 if "seccomp" in plan.without else _install_filter(plan.program, plan.seccomp)), memory


def tell(listener: int, greeting: bytes) -> None:
    """Say hello and hand over the work folder, for reading files out, the memory, and the listener of refused calls.

    The session must not keep the listener: it could answer its own calls.
    """
    # Family and type are given, else Python asks the kernel for them, which the filter refuses by now.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=os.dup(SOCKET)) as channel:
        handles = [_FOLDER, _OUTPUT, listener] if listener >= 0 else [_FOLDER, _OUTPUT]
        rights = struct.pack(f"{len(handles)}i", *handles)
        channel.sendmsg([greeting], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    for handle in handles:
        os.close(handle)
    os.dup2(1, 2)  # until here standard error told the host what went wrong


def _share(size: int) -> memoryview:
    """Memory that outlives the process. Sealed: it can neither grow nor shrink under whoever reads it."""
    handle = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    if handle != _OUTPUT:
        raise OSError("the output has another descriptor than it should")
    os.ftruncate(handle, size)
    fcntl.fcntl(handle, _ADD_SEALS, _SEALS)
    return kernel.map_shared(handle, size)


def _close_descriptors(sock: int) -> None:
    os.dup2(sock, SOCKET)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    kernel.close_from(SOCKET + 1)


def _install_filter(program: bytes, number: int) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
    return kernel.syscall("seccomp", number, _SECCOMP_SET_MODE_FILTER, _NEW_LISTENER, header)
