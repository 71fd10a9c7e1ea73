"""The launcher from the host's side: one thread that starts it, keeps sessions in reserve and answers refused calls.

It belongs to the process, not to an event loop: loops come and go. All of its work is in the one thread, so nothing
here needs a lock but the queue of wishes.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import IO, Any

from wherry.errors import SandboxError, SandboxUnavailable

from . import refusals
from .inside.config import JailConfig
from .launch import read_complaints, spawn
from .links import Exit, Link
from .metering import Meter

RESERVE = 2
"""Sessions that stand ready, so that opening one is a round trip."""
_START_SECONDS = 20.0
_SESSION_SECONDS = 10.0
_RESERVE_TRIES = 3


class Zygote:
    """Makes jailed processes of one kind. Thread-safe."""

    def __init__(self, config: JailConfig, names: dict[int, str], *, reserve: int = RESERVE) -> None:
        self._config = config
        self._names = names
        self._size = reserve
        self._reserve: collections.deque[Link] = collections.deque()
        self._wishes: collections.deque[Future[Link]] = collections.deque()
        self._links: dict[int, Link] = {}
        self._listeners: dict[int, tuple[Link, Meter | None]] = {}
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self._poll.register(self._wake, select.EPOLLIN)
        self._started: Future[None] = Future()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="wherry-sandbox", daemon=True)
        self._thread.start()

    def started(self) -> Future[None]:
        """Done when the launcher is up; fails with SandboxUnavailable where it cannot be."""
        return self._started

    @property
    def closing(self) -> bool:
        return self._closing

    def take(self) -> Future[Link]:
        """A fresh process that nobody else has."""
        wish: Future[Link] = Future()
        if self._closing:
            wish.set_exception(SandboxError("the sandbox is closed"))
            return wish
        self._wishes.append(wish)
        self._nudge()
        return wish

    def close(self) -> None:
        """End every process of this zygote, and the thread."""
        if not self._closing:
            self._closing = True
            self._nudge()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    def forget(self) -> None:
        """In a forked copy of the host: close its copies of the descriptors. The processes are the parent's."""
        self._closing = True
        for link in [*self._links.values(), *self._reserve]:
            link.forget()
        for descriptor in self._listeners:
            os.close(descriptor)
        if self._control is not None:
            self._control.close()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _main(self) -> None:
        try:
            self._start()
            self._started.set_result(None)
        except BaseException as error:  # noqa: BLE001  # told to whoever waits
            self._stop()
            self._closing = True
            self._started.set_exception(error)
            self._refuse_wishes()
            return
        try:
            while not self._closing:
                self._work()
                for descriptor, events in self._poll.poll():
                    self._on_event(descriptor, events)
        finally:
            self._closing = True
            self._stop()
            self._refuse_wishes()
            os.close(self._wake)
            self._poll.close()

    def _refuse_wishes(self) -> None:
        while self._wishes:
            wish = self._wishes.popleft()
            if wish.set_running_or_notify_cancel():
                wish.set_exception(SandboxError("the sandbox is closed"))

    def _on_event(self, descriptor: int, events: int) -> None:
        if descriptor == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        elif descriptor in self._listeners:
            if events & select.EPOLLIN:
                link, meter = self._listeners[descriptor]
                refusals.answer(descriptor, link, self._names, meter)
            else:  # the session is gone
                self._drop_listener(descriptor)
        elif self._control is not None and descriptor == self._control.fileno():
            self._receive()

    def _drop_listener(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._listeners[descriptor]
        os.close(descriptor)

    def _work(self) -> None:
        """Grant wishes first, from the reserve where it has any; then fill it up."""
        failures = 0
        while not self._closing and (self._wishes or (len(self._reserve) < self._size and failures < _RESERVE_TRIES)):
            wish = self._wishes.popleft() if self._wishes else None
            if wish is not None and not wish.set_running_or_notify_cancel():
                continue
            try:
                link = self._reserve.popleft() if wish is not None and self._reserve else self._make()
            except (OSError, SandboxError, ValueError) as error:
                failures += 1
                self._stop()  # a launcher that fails is replaced by a new one
                if wish is not None:
                    wish.set_exception(SandboxError(f"no session could be made: {error}"))
                continue
            if wish is None:
                self._reserve.append(link)
            else:
                wish.set_result(link)

    def _start(self) -> None:
        scratch = tempfile.mkdtemp(prefix="wherry-")
        os.chmod(scratch, 0o755)  # noqa: S103  # the launcher may be another user by then; it is empty, or holds folders of 700
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process, self._complaints = spawn("launcher", theirs.fileno())
            self._control = control
            control.settimeout(_START_SECONDS)
            self._config = replace(self._config, scratch=scratch)
            control.send(self._config.encode())
            while True:
                message, _ = self._message()
                if "map" in message:
                    self._map_ids()
                    control.send(b"mapped")
                elif "up" in message:
                    break
                else:
                    raise SandboxUnavailable(f"the jail cannot be built: {message.get('failed', message)}")
            self._poll.register(control, select.EPOLLIN)
        except OSError as error:
            told = read_complaints(self._complaints) if self._complaints else ""
            raise SandboxUnavailable(f"the jail cannot be built: {told or error}") from error
        finally:
            if self._config.namespaces or self._control is None:
                shutil.rmtree(scratch, ignore_errors=True)  # the jail's root was only mounted there while it was built

    def _map_ids(self) -> None:
        """Inside, 0 builds the jail as our 0; what runs in it is 1000 there and nobody here."""
        pid = self._process.pid if self._process else 0
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write("0 0 1\n1000 65534 1\n")

    def _message(self) -> tuple[dict[str, Any], list[int]]:
        if self._control is None:
            raise OSError("the launcher is not running")
        data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 2)
        if not data:
            told = read_complaints(self._complaints) if self._complaints else ""
            raise OSError(f"the launcher ended: {told or 'without a word'}")
        return json.loads(data), descriptors

    def _receive(self) -> None:
        """News from the launcher outside of a request: sessions that ended, or its own end."""
        try:
            message, _ = self._message()
        except OSError:
            self._stop()
            return
        self._note_exit(message)

    def _note_exit(self, message: dict[str, Any]) -> bool:
        if "exit" not in message:
            return False
        link = self._links.pop(message["exit"], None)
        if link is not None and not link.exit.done():
            link.exit.set_result(Exit(message["code"], message["cpu"]))
        if link is not None and link in self._reserve:
            self._reserve.remove(link)
        return True

    def _make(self) -> Link:
        if self._control is None:
            self._start()
        if self._control is None:
            raise OSError("the launcher is not running")
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"session"], [theirs.fileno()])
        self._control.settimeout(_SESSION_SECONDS)
        while True:
            message, descriptors = self._message()
            if not self._note_exit(message):
                break
        if "pid" not in message:
            ours.close()
            raise SandboxError(
                f"{message.get('failed')}: {read_complaints(self._complaints) if self._complaints else ''}"
            )
        link = Link(ours, descriptors[0])
        self._links[message["pid"]] = link
        try:
            self._greet(ours, link)
        except BaseException:
            link.release()
            raise
        return link

    def _greet(self, ours: socket.socket, link: Link) -> None:
        ours.settimeout(_SESSION_SECONDS)
        greeting, handles, _, _ = socket.recv_fds(ours, 64, 2)
        if not greeting:
            told = read_complaints(self._complaints) if self._complaints else ""
            raise SandboxError(f"the session ended while it was locked down: {told}")
        link.keep_folder(handles[0])
        for listener in handles[1:]:
            self._listeners[listener] = link, self._meter()
            self._poll.register(listener, select.EPOLLIN)
        ours.setblocking(False)

    def _meter(self) -> Meter | None:
        config = self._config
        if config.namespaces:
            return None
        limits = {"disk": config.disk_bytes, "inodes": config.inodes, "threads": config.threads}
        disk, inodes, threads = (1 << 62 if layer in config.without else limit for layer, limit in limits.items())
        return Meter(disk_bytes=disk, inodes=inodes, threads=threads)

    def _stop(self) -> None:
        """End the launcher; the kernel ends everything that it started."""
        for link in self._links.values():
            link.signal(signal.SIGKILL)
            if not link.exit.done():
                link.exit.set_result(Exit(-signal.SIGKILL))
        self._links.clear()
        while self._reserve:
            self._reserve.popleft().release()
        for descriptor in list(self._listeners):
            self._drop_listener(descriptor)
        if self._control is not None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._poll.unregister(self._control)
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process = None
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None
        if not self._config.namespaces:
            shutil.rmtree(self._config.scratch, ignore_errors=True)
