"""Limits by control groups, where this process may make some: root, or a scope that was handed over.

A second bound behind the session's own: it counts what address space does not, the pages of files in memory, page
tables, buffers of pipes. Where there is no access the limits of the process itself hold, as they do with it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from .limits import MIB

_PREFIX = "wherry-"
_SLACK = 32 * MIB
"""For the kernel's own: page tables, sockets, the first pages that a session copies."""
_FILES = {"memory": ("memory.max", "memory.limit_in_bytes"), "pids": ("pids.max", "pids.max")}
"""Controller -> its limit's file in version 2 and in version 1."""
_count = itertools.count()


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one session, one for each hierarchy."""

    folders: tuple[Path, ...]

    def remove(self) -> bool:
        """Once its process has ended. False if it is still busy, as it may be for a moment."""
        gone = True
        for folder in self.folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


@dataclass(frozen=True, slots=True)
class Groups:
    """Where groups can be made."""

    parents: dict[Path, dict[str, str]]
    """Folder -> controller -> the limit's file in it."""
    label: str
    """What the names of the groups begin with."""

    def prefixes(self) -> tuple[str, ...]:
        """What the paths of all groups made here begin with."""
        return tuple(str(parent / self.label) for parent in self.parents)

    def make(self, pid: int, *, memory_bytes: int, disk_bytes: int, threads: int) -> Group:
        """Put a session's process into groups of its own.

        Args:
            pid: of the process, as this one sees it.
            memory_bytes: what the session may have over the interpreter.
            disk_bytes: what its files may take, which are in memory too.
            threads: how many tasks it may have.

        Raises:
            OSError: it could not be.
        """
        limits = {"memory": memory_bytes + disk_bytes + _SLACK, "pids": threads}
        folders: list[Path] = []
        try:
            for parent, files in self.parents.items():
                folder = parent / f"{self.label}{next(_count)}"
                folder.mkdir()
                folders.append(folder)
                for controller, file in files.items():
                    (folder / file).write_text(str(limits[controller]))
                (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            Group(tuple(folders)).remove()
            raise
        return Group(tuple(folders))


def find() -> Groups | None:
    """Where this process may make groups that limit memory and processes; None if nowhere."""
    parents = _find()
    return Groups(parents, f"{_PREFIX}{_owner()}-{next(_count)}-") if parents else None


@functools.cache
def _find() -> dict[Path, dict[str, str]]:
    parents: dict[Path, dict[str, str]] = {}
    with contextlib.suppress(OSError, ValueError):
        for path, controllers, version in _own():
            _sweep(path)
            files = {name: _FILES[name][0 if version == 2 else 1] for name in controllers}
            there = _try(path, files)
            if there:
                parents[path] = there
    covered = {controller for files in parents.values() for controller in files}
    return parents if covered == set(_FILES) else {}


def _own() -> list[tuple[Path, list[str], int]]:
    """The folders of the groups that this process is in: path, controllers, version."""
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts[""] = Path(place)
        elif kind == "cgroup":
            mounts |= {name: Path(place) for name in options.split(",") if name in _FILES}
    found: list[tuple[Path, list[str], int]] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        names = [name for name in controllers.split(",") if name in _FILES]
        if not controllers and "" in mounts:
            found.append((mounts[""] / path.lstrip("/"), list(_FILES), 2))
        elif names and names[0] in mounts:
            found.append((mounts[names[0]] / path.lstrip("/"), names, 1))
    return found


def _try(parent: Path, files: dict[str, str]) -> dict[str, str]:
    """The limits that a group made here has: in version 2 those that its parent passes on."""
    folder = parent / f"{_PREFIX}{_owner()}-{next(_count)}"
    try:
        folder.mkdir()
    except OSError:
        return {}
    there = {controller: file for controller, file in files.items() if os.access(folder / file, os.W_OK)}
    folder.rmdir()
    return there


def _owner() -> str:
    """This process. Others that see the same groups may have the same number, each in a namespace of its own."""
    return f"{os.stat('/proc/self/ns/pid').st_ino}.{os.getpid()}"


def _sweep(parent: Path) -> None:
    """Remove what hosts left that were killed. A group with a process in it cannot be removed.

    Of this namespace only: whether the process of another is there cannot be seen, and its newest group is empty for a
    moment.
    """
    space = _owner().partition(".")[0]
    for folder in parent.glob(f"{_PREFIX}{space}.*-*"):
        number = folder.name.partition(".")[2].split("-")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
