"""The launcher: builds the namespaces and the root, loads modules once, then forks a session for each request.

A fresh program, not a fork of the host: nothing of the host's memory, environment or descriptors is in it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from . import kernel, lockdown, root, worker
from .config import JailConfig

INSIDE_ID = 1000
"""The user and group that a session sees itself as."""


def main(descriptor: int) -> NoReturn:
    control = socket.socket(fileno=descriptor)
    try:
        config = JailConfig.decode(control.recv(1 << 20))
        proc = _enter_namespaces(control, config) if config.namespaces else -1
        # Should anything inside ever leave a child behind, it comes back here to be reaped.
        kernel.prctl("subreaper", kernel.PR_SET_CHILD_SUBREAPER, 1)
        if not config.namespaces:
            _die_with_parent()
        _load(config)
        launcher = Launcher(control, config, proc)
    except (OSError, ImportError, ValueError) as error:
        _send(control, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _send(control, {"up": True})
    launcher.serve()


def _send(control: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    socket.send_fds(control, [json.dumps(message).encode()], list(descriptors))


def _die_with_parent() -> None:
    """Be killed when the parent dies. Set after every change of ids, which clear it."""
    parent = os.getppid()
    kernel.prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died just before
        os._exit(1)


def _enter_namespaces(control: socket.socket, config: JailConfig) -> int:
    uid, gid = os.getuid(), os.getgid()
    if config.host_maps_ids:
        os.setgroups([])
    kernel.unshare(kernel.CLONE_NEWUSER)
    if config.host_maps_ids:
        # Mapping 0 to 0 alone would make payloads the kernel's root: process limits and ownership would mean nothing.
        _send(control, {"map": True})
        control.recv(64)
    else:
        _map_ids("/proc/self", None, f"0 {uid} 1", f"0 {gid} 1")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _die_with_parent()
    names = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC
    network = 0 if "network" in config.without else kernel.CLONE_NEWNET
    kernel.unshare(names | kernel.CLONE_NEWUTS | network | kernel.CLONE_NEWCGROUP)
    child = os.fork()  # the first child is process 1 of the new pid namespace: with it dies everything inside
    if child:
        control.close()
        os.waitpid(child, 0)
        os._exit(0)
    kernel.prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    socket.sethostname("sandbox")
    proc = root.build(config.scratch, config.packages)
    root.enter(config.numbers["pivot_root"])
    return proc


def _map_ids(folder: str, proc: int | None, users: str, groups: str) -> None:
    for name, line in (("setgroups", "deny"), ("uid_map", users), ("gid_map", groups)):
        handle = os.open(f"{folder}/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(handle, line.encode())
        os.close(handle)


def _load(config: JailConfig) -> None:
    """Import once what most snippets want; sessions share the pages."""
    packages = (root.PACKAGES if config.namespaces else config.packages) if config.packages else ""
    sys.path[:] = [path for path in sys.path if path] + ([packages] if packages else [])
    for name in config.preload:
        importlib.import_module(name)
    for name in config.modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a package may raise anything; there is no file, no network, no process
            raise ImportError(f"the package {name!r} cannot be used here: {type(error).__name__}: {error}") from error
    gc.collect()
    gc.freeze()  # the collector must not write into shared pages


class Launcher:
    """Forks a session for each request and says how each one ended."""

    def __init__(self, control: socket.socket, config: JailConfig, proc: int) -> None:
        self._control = control
        self._config = config
        self._proc = proc
        self._own_pids = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc) if proc >= 0 else -1
        packages = root.PACKAGES if config.packages and config.namespaces else config.packages
        # Whatever is the same for all sessions is done here, once.
        self._plan = lockdown.plan(config, read=root.readable(packages))
        self._handles: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> NoReturn:
        # Ends are told by handles, not by SIGCHLD, which would also come each time that a session is stopped.
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    self._on_request()
                else:
                    self._reap()

    def _on_request(self) -> None:
        data, sockets, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
        if not data:
            os._exit(0)  # the host is gone, and so is everything in here
        try:
            pid = self._fork(sockets[0])
        except OSError as error:
            _send(self._control, {"failed": f"the session could not be made: {error}"})
            return
        finally:
            os.close(sockets[0])
        handle = os.pidfd_open(pid)
        self._handles[pid] = handle
        self._poll.register(handle, select.POLLIN)
        _send(self._control, {"pid": pid}, (handle,))

    def _reap(self) -> None:
        while self._handles:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            handle = self._handles.pop(pid, -1)
            if handle >= 0:
                self._poll.unregister(handle)
                os.close(handle)
            code = os.waitstatus_to_exitcode(status)
            _send(self._control, {"exit": pid, "code": code, "cpu": usage.ru_utime + usage.ru_stime})

    def _fork(self, sock: int) -> int:
        if not self._config.namespaces:
            pid = os.fork()
            if not pid:
                self._session(sock)
            return pid
        kernel.unshare(kernel.CLONE_NEWPID)  # for the next child, which is process 1 there
        try:
            pid = os.fork()
            if not pid:
                self._session(sock)
        finally:
            # The kernel allows the next one only to those who have children where they are themselves.
            kernel.enter_namespace(self._own_pids, kernel.CLONE_NEWPID)
        return pid

    def _session(self, sock: int) -> NoReturn:
        """In the child, which never returns."""
        config = self._config
        try:
            if config.namespaces:
                _unshare_again(config, self._proc)
                inodes = 0 if "inodes" in config.without else config.inodes
                size = 0 if "disk" in config.without else config.disk_bytes  # 0: without bounds
                work = root.mount_work(disk_bytes=size, inodes=inodes)
            else:
                work = f"{config.scratch}/{os.getpid()}"
                os.mkdir(work, 0o700)
                _die_with_parent()
            listener = lockdown.lock(sock, self._plan, work=work, baseline=self._address_space())
            lockdown.tell(listener, worker.GREETING)
            worker.serve(lockdown.SOCKET, stdout_bytes=config.stdout_bytes, packages=config.modules)
        except BaseException as error:  # noqa: BLE001  # a half-built jail must never go on
            os.write(2, f"session: {type(error).__name__}: {error}\n".encode())
        os._exit(97)

    def _address_space(self) -> int:
        folder = self._proc if self._proc >= 0 else None
        handle = os.open("/proc/self/statm" if folder is None else "self/statm", os.O_RDONLY, dir_fd=folder)
        return int(os.read(handle, 99).split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _unshare_again(config: JailConfig, proc: int) -> None:
    """The session's own user, mounts and queues; its process ids are its own already. No session sees another."""
    if config.host_maps_ids and "user" not in config.without:
        os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)  # else its own uid_map would not be its to write
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    _map_ids("self", proc, f"{INSIDE_ID} {uid} 1", f"{INSIDE_ID} {gid} 1")
