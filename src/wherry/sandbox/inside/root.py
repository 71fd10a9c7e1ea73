"""The file system that a session sees: the interpreter and its libraries, read-only, and nothing of the host's.

Built in a mount namespace of its own on an empty tmpfs, then made the root; the host's root is unmounted, so that no
path leads back to it.
"""

from __future__ import annotations

import os
import sys

from . import kernel

WORK = "/work"
PACKAGES = "/packages"
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_MADE = ("work", "proc", "old", "dev", "tmp", "sys")
_FOREIGN = ("site-packages", "dist-packages")


def readable(packages: str) -> list[str]:
    """What a session may read, as paths of the host: the system's libraries, the interpreter's, the package set."""
    prefix = os.path.realpath(sys.base_prefix)
    own = (
        []
        if prefix == "/usr"
        else [os.path.join(sys.base_prefix, sys.platlibdir), os.path.join(sys.base_prefix, "lib")]
    )
    paths = [*_SYSTEM, *own, *([packages] if packages else [])]
    return [path for path in dict.fromkeys(paths) if os.path.lexists(path)]


def foreign_packages() -> list[str]:
    """Folders of packages that were installed for others, below what is readable: never a snippet's to see."""
    stdlib = os.path.dirname(os.path.abspath(os.__file__))
    below = [os.path.join(stdlib, name) for name in _FOREIGN]
    return [path for path in [*below, "/usr/lib/python3/dist-packages"] if os.path.isdir(path)]


def without_foreign(paths: list[str]) -> tuple[list[str], list[str]]:
    """Where nothing can be mounted over it: name what lies around the packages of others instead.

    Returns:
        What may be read with all that is below, and folders of which the names alone may be read.
    """
    foreign = [os.path.realpath(path) for path in foreign_packages()]
    read, names = list[str](), list[str]()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        real = os.path.realpath(path)
        if real in foreign:
            continue
        if any(other.startswith(real + "/") for other in foreign):
            names.append(path)
            waiting += [os.path.join(path, name) for name in os.listdir(path)]
        else:
            read.append(path)
    return read, names


def build(root: str, packages: str, *, everything: bool = False) -> int:
    """Make `root` the root of this mount namespace.

    Args:
        root: an empty folder.
        packages: a package set, or nothing.
        everything: for tests: show the whole of the host's root.

    Returns:
        A descriptor of a /proc that no path leads to: only the launcher may write id maps through it.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)  # nothing that follows is seen by the host
    kernel.mount("tmpfs", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4m,mode=755")
    for name in ("work", "proc", "old", "dev"):
        os.mkdir(f"{root}/{name}")
    shown = [f"/{name}" for name in os.listdir("/") if name not in _MADE] if everything else readable("")
    for path in shown:
        if not any(path.startswith(other + "/") for other in shown if other != path):
            _show(path, root + path)
    for path in DEVICES:
        _show(path, root + path, devices=True)
    for path in foreign_packages():
        if os.path.isdir(root + path):  # an empty folder hides them
            kernel.mount(
                "tmpfs", root + path, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k"
            )
    if packages:
        _show(packages, root + PACKAGES)
    os.symlink("work", root + "/tmp")  # noqa: S108  # the session's own
    kernel.mount("proc", root + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    proc = os.open(root + "/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(root)
    return proc


def enter(pivot_root: int) -> None:
    """Swap the roots; afterwards the host's files cannot be named, and the new root cannot be written."""
    kernel.syscall("pivot_root", pivot_root, b".", b"old")
    os.chdir("/")
    for name in ("/old", "/proc"):
        kernel.unmount(name)
        os.rmdir(name)
    flags = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", "/", None, flags)


def mount_work(*, disk_bytes: int, inodes: int) -> str:
    """A session's own writable folder: in memory, bounded, without programs, gone with the session."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", WORK, "tmpfs", flags, f"size={disk_bytes},nr_inodes={inodes},mode=700")
    return WORK


def _show(source: str, target: str, *, devices: bool = False) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source) and not os.path.isabs(os.readlink(source)):
        os.symlink(os.readlink(source), target)  # /lib -> usr/lib
        return
    source = os.path.realpath(source)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.make_read_only(target, devices=devices)
