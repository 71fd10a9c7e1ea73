"""Calls to the Linux kernel that Python has no function for. Every failure is an OSError that names the call."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_NAMESPACES = {
    CLONE_NEWNS: "mount",
    CLONE_NEWCGROUP: "cgroup",
    CLONE_NEWUTS: "uts",
    CLONE_NEWIPC: "ipc",
    CLONE_NEWUSER: "user",
    CLONE_NEWPID: "pid",
    CLONE_NEWNET: "net",
}

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

# Numbers of 424 and above are the same on every architecture; older ones come from the host, by name.
SYS_CLOSE_RANGE = 436
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446

_READ_WRITE, _MAP_SHARED = 3, 1
_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *args: object) -> int:
    """A raw system call; integers are passed as C longs."""
    return _check(_libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in args]), what)


def prctl(what: str, option: int, argument: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero), what)


def die_with_parent() -> None:
    """Be killed when the parent dies. Set after every change of ids, which clear it."""
    parent = os.getppid()
    prctl("parent death signal", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died just before
        os._exit(1)


def unshare(flags: int) -> None:
    names = ", ".join(name for flag, name in _NAMESPACES.items() if flags & flag)
    _check(_libc.unshare(flags), f"no new namespace can be made ({names})")


def enter_namespace(handle: int, kind: int) -> None:
    _check(_libc.setns(handle, kind), f"setns(0x{kind:x})")


def close_from(first: int) -> None:
    """Close every descriptor from `first` on, in one call however many there are."""
    syscall("close_range", SYS_CLOSE_RANGE, first, 0xFFFFFFFF, 0)


def mount(source: str, target: str, filesystem: str | None, flags: int, data: str | None = None) -> None:
    options = None if data is None else data.encode()
    kind = None if filesystem is None else filesystem.encode()
    result = _libc.mount(os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), options)
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Detach a mount at once, busy or not."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def map_shared(handle: int, size: int) -> memoryview:
    """The first bytes of a file as memory that is shared with whoever else maps or reads it; keeps no descriptor."""
    _libc.mmap.restype = ctypes.c_void_p
    address = _libc.mmap(None, ctypes.c_size_t(size), _READ_WRITE, _MAP_SHARED, handle, ctypes.c_long(0))
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")


def make_read_only(target: str, *, devices: bool = False) -> None:
    """Set a mount and all below it read-only: a bind mount with MS_RDONLY would cover its top alone.

    mount_setattr needs Linux 5.12; an older kernel is refused here, which is where the probe finds out.
    """
    flags = MS_RDONLY | MS_NOSUID | (MS_NOEXEC if devices else MS_NODEV)
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)
    syscall(f"mount_setattr {target}", SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, attributes, 32)


def drop_capabilities() -> None:
    """Give up every capability, and every way to get one back."""
    drop, zero = _libc.prctl, ctypes.c_ulong(0)
    for capability in range(64):
        if drop(PR_CAPBSET_DROP, ctypes.c_ulong(capability), zero, zero, zero) < 0:
            break  # either the last one was passed (EINVAL), or there is no CAP_SETPCAP and hence nothing to drop
    prctl("ambient capabilities", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    # noroot, no_setuid_fixup, keep_caps off, all locked. Fails without CAP_SETPCAP: then there is no capability at all.
    _libc.prctl(PR_SET_SECUREBITS, ctypes.c_ulong(0x2F), 0, 0, 0)
    header = struct.pack("II", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _check(_libc.capset(header, bytes(24)), "capset")
