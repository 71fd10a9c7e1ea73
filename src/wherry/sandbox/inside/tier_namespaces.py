"""The tier `namespaces`: sessions in a root, a network and a process table of their own.

The launcher's namespaces are made once. Each session gets, in addition, its own user, mount, process and queue
namespaces: no session sees another, and what one could break in its own is gone with it.
"""

from __future__ import annotations

import os
import signal
import socket

from . import kernel, root
from .config import JailConfig
from .control import send
from .keeper import LeftGroups, end_with_host, wait_for_all

INSIDE_ID = 1000
"""The user and group that a session sees itself as."""


class NamespacesTier:
    """See `launcher.Tier`."""

    def __init__(self, control: socket.socket, config: JailConfig) -> None:
        self._config = config
        self._proc = _enter(control, config)
        # Should anything inside ever leave a child behind, it comes back here to be reaped.
        kernel.prctl("subreaper", kernel.PR_SET_CHILD_SUBREAPER, 1)
        self._own_pids = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        self.packages = root.PACKAGES if config.packages else ""
        self.readable = [*root.readable(self.packages), "/dev"]

    def fork(self) -> int:
        """See `launcher.Tier.fork`."""
        if "pid" in self._config.without:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)  # for the next child, which is process 1 there
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                # The kernel allows the next one only to those who have children where they are themselves. Thus one
                # fork is enough, where a process in between would cost as much as the session itself.
                kernel.enter_namespace(self._own_pids, kernel.CLONE_NEWPID)
        return pid

    def settle(self) -> str:
        """See `launcher.Tier.settle`."""
        config = self._config
        if config.host_maps_ids and "user" not in config.without:
            os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
            os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
            kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)  # else its own uid_map would not be its to write
        uid, gid = os.getuid(), os.getgid()
        queues = 0 if "ipc" in config.without else kernel.CLONE_NEWIPC
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | queues)
        _map_ids("self", self._proc, f"{INSIDE_ID} {uid} 1", f"{INSIDE_ID} {gid} 1")
        inodes = 0 if "inodes" in config.without else config.inodes
        size = 0 if "disk" in config.without else config.disk_bytes  # 0: without bounds
        return root.mount_work(disk_bytes=size, inodes=inodes)

    def address_space(self) -> int:
        """See `launcher.Tier.address_space`."""
        handle = os.open("self/statm", os.O_RDONLY, dir_fd=self._proc)
        return int(os.read(handle, 99).split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def clear(self, pid: int) -> None:
        """See `launcher.Tier.clear`: the kernel has done it, with the last process of its namespaces."""


def _enter(control: socket.socket, config: JailConfig) -> int:
    uid, gid = os.getuid(), os.getgid()
    if config.host_maps_ids:
        os.setgroups([])
    kernel.unshare(kernel.CLONE_NEWUSER)
    if config.host_maps_ids:
        # Mapping 0 to 0 alone would make payloads the kernel's root: process limits and ownership would mean nothing.
        send(control, {"map": True})
        control.recv(64)
    else:
        _map_ids("/proc/self", None, f"0 {uid} 1", f"0 {gid} 1")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.die_with_parent()
    names = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC
    network = 0 if "network" in config.without else kernel.CLONE_NEWNET
    host_name = 0 if "host-name" in config.without else kernel.CLONE_NEWUTS
    # The last hides what no /proc and no /sys hide already, for nothing: it is the one layer that no test can show.
    kernel.unshare(names | host_name | network | kernel.CLONE_NEWCGROUP)
    groups = LeftGroups(config.groups)
    child = os.fork()  # the first child is process 1 of the new pid namespace: with it dies everything inside
    if child:
        control.close()
        end_with_host(child)
        wait_for_all()
        groups.remove()
        os._exit(0)
    groups.close()
    # Without asking who the parent is: its id is in another namespace. Should it be dead, so is the control socket.
    kernel.prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if host_name:
        socket.sethostname("sandbox")
    proc = root.build(config.scratch, config.packages, everything="root" in config.without)
    root.enter(config.numbers["pivot_root"])
    return proc


def _map_ids(folder: str, proc: int | None, users: str, groups: str) -> None:
    for name, line in (("setgroups", "deny"), ("uid_map", users), ("gid_map", groups)):
        handle = os.open(f"{folder}/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(handle, line.encode())
        os.close(handle)
