"""The tier `landlock`: sessions in the host's own file system, where no namespace can be made.

Inside containers and pods. Landlock is the wall here, twice: once around the launcher, with every folder that sessions
may read, and once around each session, with its own work folder as the only one that it can write or see into.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
from typing import NoReturn

from . import kernel, landlock, root
from .config import JailConfig
from .keeper import LeftGroups, end_with_host, wait_for_all
from .removal import remove_tree

_NEEDED_ABI = 4
"""The first that covers TCP. Below 3 files could be truncated, below 2 moved."""
_NOBODY = 65534
_FOLDER = struct.Struct("!Q")


class LandlockTier:
    """See `launcher.Tier`."""

    def __init__(self, control: socket.socket, config: JailConfig) -> None:
        version = landlock.abi()
        if version < _NEEDED_ABI:
            raise OSError(f"this kernel's Landlock has version {version}; {_NEEDED_ABI} is needed")
        if "user" not in config.without:
            _give_up_root(config.scratch)
        self._scratch = config.scratch
        self._count = 0
        self._folders: dict[int, int] = {}
        self.packages = config.packages
        shown = root.readable(config.packages)
        self.readable = [*shown, *root.DEVICES]
        _forgive_copies()
        self._janitor = _leave_a_janitor(control, config)
        # Its own size is the size of a session that it has just forked; a session could not open this any more.
        self._size = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        if "launcher-wall" in config.without:
            return
        read, names = root.without_foreign(self.readable)
        kernel.prctl("no_new_privs", kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(read=read, names=names, write=[config.scratch, "/dev/null"])

    def fork(self) -> int:
        """See `launcher.Tier.fork`."""
        self._count += 1
        pid = os.fork()
        if pid:
            self._folders[pid] = self._count
        return pid

    def settle(self) -> str:
        """See `launcher.Tier.settle`."""
        kernel.die_with_parent()
        work = f"{self._scratch}/{self._count}"
        os.mkdir(work, 0o700)
        return work

    def address_space(self) -> int:
        """See `launcher.Tier.address_space`."""
        return int(os.pread(self._size, 99, 0).split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def clear(self, pid: int) -> None:
        """See `launcher.Tier.clear`."""
        folder = self._folders.pop(pid, None)
        if folder is not None:
            os.write(self._janitor, _FOLDER.pack(folder))


def _give_up_root(scratch: str) -> None:
    """As nobody, where root may become that and nobody may read the standard library.

    Else sessions stay root without any capability: an owner of files that Landlock does not let them touch.
    """
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setegid(_NOBODY)
        os.seteuid(_NOBODY)
        readable = os.access(os.__file__, os.R_OK, effective_ids=True) and os.access(
            __file__, os.R_OK, effective_ids=True
        )
        os.seteuid(0)
        os.setegid(0)
        if readable:
            os.chown(scratch, _NOBODY, _NOBODY)
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:  # no such user in this container, or no capability to become one
        with contextlib.suppress(OSError):
            os.seteuid(0)
            os.setegid(0)


def _forgive_copies() -> None:
    """`shutil.copy` sets modes and times after it has copied, which nobody may here: let it do without."""

    def nothing(*_: object, **__: object) -> None:
        return None

    shutil.copymode = shutil.copystat = nothing


def _leave_a_janitor(control: socket.socket, config: JailConfig) -> int:
    """Go on in a child. The parent removes work folders, and clears up in the end, whoever was killed in whatever way.

    It alone stays outside of the wall: under Landlock each step costs as much as the path is long, so that a thousand
    folders in one another would keep the launcher from its work for half a second.

    Returns:
        Where the numbers of folders are written that are to go.
    """
    # Should anything inside ever leave a child behind, it comes back here to be reaped.
    kernel.prctl("subreaper", kernel.PR_SET_CHILD_SUBREAPER, 1)
    orders, janitor = os.pipe()
    child = os.fork()
    if child:
        control.close()
        os.close(janitor)
        _clear_up(orders, child, config)
    kernel.die_with_parent()
    os.close(orders)
    return janitor


def _clear_up(orders: int, child: int, config: JailConfig) -> NoReturn:
    end_with_host(child)
    while order := os.read(orders, _FOLDER.size):
        remove_tree(f"{config.scratch}/{_FOLDER.unpack(order)[0]}")
    wait_for_all()
    remove_tree(config.scratch)
    LeftGroups(config.groups).remove()
    os._exit(0)
