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
        # Without a pid namespace a session's middle process is not enough: orphans must come back here to be reaped.
        kernel.prctl("subreaper", kernel.PR_SET_CHILD_SUBREAPER, 1)
        if not config.namespaces:
            _die_with_parent()
        _load(config)
    except (OSError, ImportError, ValueError) as error:
        _send(control, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _send(control, {"up": True})
    _serve(control, config, proc)


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
    kernel.unshare(names | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET | kernel.CLONE_NEWCGROUP)
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
    gc.collect()
    gc.freeze()  # the collector must not write into shared pages


def _serve(control: socket.socket, config: JailConfig, proc: int) -> NoReturn:
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == woken:
                os.read(woken, 4096)
                _reap(control)
                continue
            data, sockets, _, _ = socket.recv_fds(control, 1 << 16, 1)
            if not data:
                os._exit(0)  # the host is gone, and so is everything in here
            pid = _fork_session(control, config, proc, sockets[0])
            os.close(sockets[0])
            if not pid:
                _send(control, {"failed": "the session could not be made"})
                continue
            handle = os.pidfd_open(pid)
            _send(control, {"pid": pid}, (handle,))
            os.close(handle)


def _nothing(*_: object) -> None:
    """A signal needs a handler to wake the poll."""


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        _send(control, {"exit": pid, "code": code, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss})


def _fork_session(control: socket.socket, config: JailConfig, proc: int, sock: int) -> int:
    """Its process id; 0 if it could not be made."""
    if not config.namespaces:
        pid = os.fork()
        if not pid:
            _session(control, config, -1, sock)
        return pid
    # unshare(NEWPID) works once a process, and for its children only: hence a process in the middle.
    told, tell = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if not middle:
        try:
            _unshare_again(config, proc)
            pid = os.fork()
            if not pid:
                _session(control, config, proc, sock)
            os.write(tell, str(pid).encode())
        except OSError as error:
            os.write(2, f"session: {error}\n".encode())
        os._exit(0)
    os.close(tell)
    pid = int(os.read(told, 16) or b"0")
    os.close(told)
    os.waitpid(middle, 0)
    return pid


def _unshare_again(config: JailConfig, proc: int) -> None:
    """Namespaces of the session's own, so that no session sees or signals another."""
    if config.host_maps_ids:
        os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)  # else its own uid_map would not be its to write
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
    _map_ids("self", proc, f"{INSIDE_ID} {uid} 1", f"{INSIDE_ID} {gid} 1")


def _session(control: socket.socket, config: JailConfig, proc: int, sock: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        folder = None if proc < 0 else proc
        handle = os.open("self/statm" if folder is not None else "/proc/self/statm", os.O_RDONLY, dir_fd=folder)
        baseline = int(os.read(handle, 99).split()[0]) * os.sysconf("SC_PAGE_SIZE")
        if config.namespaces:
            work = root.mount_work(disk_bytes=config.disk_bytes, inodes=config.inodes)
        else:
            work = f"{config.scratch}/{os.getpid()}"
            os.mkdir(work, 0o700)
            _die_with_parent()
        read = root.readable(root.PACKAGES if config.packages and config.namespaces else config.packages)
        listener = lockdown.lock(sock, config, work=work, read=read, baseline=baseline)
        lockdown.tell(listener, worker.GREETING)
        worker.serve(lockdown.SOCKET, stdout_bytes=config.stdout_bytes, packages=bool(config.packages))
    except BaseException as error:  # noqa: BLE001  # a half-built jail must never go on
        os.write(2, f"session: {type(error).__name__}: {error}\n".encode())
    os._exit(97)
