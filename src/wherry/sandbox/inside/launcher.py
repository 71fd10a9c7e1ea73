"""The launcher: enters its tier, loads modules once, then forks a session for each request.

A fresh program, not a fork of the host: nothing of the host's memory, environment or descriptors is in it.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import socket
import sys
from typing import NoReturn, Protocol

from . import determinism, lockdown, worker
from .config import JailConfig
from .control import send
from .tier_landlock import LandlockTier
from .tier_namespaces import NamespacesTier


class Tier(Protocol):
    """What differs between the tiers. Made before any package is loaded, and with it the walls around the launcher."""

    packages: str
    """Where the package set is, as sessions see it; empty without one."""
    readable: list[str]
    """What sessions may read, as they see it."""

    def fork(self) -> int:
        """`os.fork`, into a process that sees no other session."""
        ...

    def settle(self) -> str:
        """In the new process, still with all powers: give it its own of what it can have, and a work folder."""
        ...

    def address_space(self) -> int:
        """In the new process: bytes that it has before any snippet."""
        ...

    def clear(self, pid: int) -> None:
        """A session has ended: remove what it left."""
        ...


def main(descriptor: int) -> NoReturn:
    control = socket.socket(fileno=descriptor)
    try:
        config = JailConfig.decode(control.recv(1 << 20))
        tier: Tier = NamespacesTier(control, config) if config.namespaces else LandlockTier(control, config)
        _load(config, tier.packages)
        launcher = Launcher(control, config, tier)
    except (OSError, ImportError, ValueError) as error:
        send(control, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    send(control, {"up": True})
    launcher.serve()


def _load(config: JailConfig, packages: str) -> None:
    """Import once what most snippets want; sessions share the pages."""
    determinism.install()
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

    def __init__(self, control: socket.socket, config: JailConfig, tier: Tier) -> None:
        self._control = control
        self._config = config
        self._tier = tier
        # Whatever is the same for all sessions is done here, once.
        self._plan = lockdown.plan(config, read=tier.readable)
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
            pid = self._tier.fork()
            if not pid:
                self._session(sockets[0])
        except OSError as error:
            send(self._control, {"failed": f"the session could not be made: {error}"})
            return
        finally:
            os.close(sockets[0])
        handle = os.pidfd_open(pid)
        self._handles[pid] = handle
        self._poll.register(handle, select.POLLIN)
        send(self._control, {"pid": pid}, (handle,))

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
            send(self._control, {"exit": pid, "code": code, "cpu": usage.ru_utime + usage.ru_stime})
            self._tier.clear(pid)

    def _session(self, sock: int) -> NoReturn:
        """In the child, which never returns."""
        config = self._config
        try:
            work = self._tier.settle()
            listener, memory = lockdown.lock(sock, self._plan, work=work, baseline=self._tier.address_space())
            lockdown.tell(listener, worker.GREETING)
            worker.serve(lockdown.SOCKET, stdout_bytes=config.stdout_bytes, packages=config.modules, memory=memory)
        except BaseException as error:  # noqa: BLE001  # a half-built jail must never go on
            os.write(2, f"session: {type(error).__name__}: {error}\n".encode())
        os._exit(97)
