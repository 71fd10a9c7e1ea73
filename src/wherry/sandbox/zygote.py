"""The launcher from the host's side: one thread that starts it, keeps sessions in reserve and answers refused calls.

It belongs to the process, not to an event loop: loops come and go. All of its work is in the one thread, so nothing
here needs a lock but the queue of wishes.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import threading
from concurrent.futures import Future
from dataclasses import replace

from wherry.errors import SandboxError

from . import cgroups, refusals
from .inside.config import JailConfig
from .launcher import Launcher
from .links import Exit, Link
from .metering import Meter

RESERVE = 2
"""Sessions that stand ready, so that opening one is a round trip."""
_RESERVE_TRIES = 3


class Zygote:
    """Makes jailed processes of one kind. Thread-safe."""

    def __init__(self, config: JailConfig, names: dict[int, str], *, reserve: int = RESERVE) -> None:
        self._groups = cgroups.find()
        self._config = replace(config, groups=self._groups.prefixes() if self._groups else ())
        self._names = names
        self._size = reserve
        self._reserve: collections.deque[Link] = collections.deque()
        self._wishes: collections.deque[Future[Link]] = collections.deque()
        self._links: dict[int, Link] = {}
        self._grouped: dict[int, cgroups.Group] = {}
        self._ended: list[cgroups.Group] = []
        self._listeners: dict[int, tuple[Link, Meter | None]] = {}
        self._launcher: Launcher | None = None
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
        if self._launcher is not None:
            self._launcher.forget()

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
        elif self._launcher is not None and descriptor == self._launcher.fileno():
            try:
                self._launcher.receive()
            except OSError:  # it has ended; the next session, or the reserve, starts another
                self._stop()

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

    def _start(self) -> Launcher:
        if self._launcher is None:
            self._launcher = Launcher(self._config, on_exit=self._note_exit)
            self._launcher.wait_until_up()
            self._poll.register(self._launcher, select.EPOLLIN)
        return self._launcher

    def _make(self) -> Link:
        pid, link, listeners = self._start().make()
        self._links[pid] = link
        self._limit(pid, link)
        for listener in listeners:
            self._listeners[listener] = link, self._meter()
            self._poll.register(listener, select.EPOLLIN)
        return link

    def _limit(self, pid: int, link: Link) -> None:
        config = self._config
        if self._groups is None or "groups" in config.without:
            return
        # In `landlock` files are not in memory. A process that ended meanwhile needs no limit.
        disk = config.disk_bytes if config.namespaces else 0
        with contextlib.suppress(ProcessLookupError):
            self._grouped[pid] = self._groups.make(
                link.pid, memory_bytes=config.memory_bytes, disk_bytes=disk, threads=config.threads
            )

    def _meter(self) -> Meter | None:
        config = self._config
        if config.namespaces:
            return None
        limits = {"disk": config.disk_bytes, "inodes": config.inodes, "threads": config.threads}
        disk, inodes, threads = (1 << 62 if layer in config.without else limit for layer, limit in limits.items())
        return Meter(disk_bytes=disk, inodes=inodes, threads=threads)

    def _note_exit(self, pid: int, ended: Exit) -> None:
        link = self._links.pop(pid, None)
        if pid in self._grouped:
            self._ended.append(self._grouped.pop(pid))
        self._ended = [group for group in self._ended if not group.remove()]
        if link is not None and not link.exit.done():
            link.exit.set_result(ended)
        if link is not None and link in self._reserve:
            self._reserve.remove(link)
            link.release()

    def _stop(self) -> None:
        """End the launcher and all sessions."""
        for link in self._links.values():
            link.signal(signal.SIGKILL)
            if not link.exit.done():
                link.exit.set_result(Exit(-signal.SIGKILL))
        self._links.clear()
        while self._reserve:
            self._reserve.popleft().release()
        for descriptor in list(self._listeners):
            self._drop_listener(descriptor)
        if self._launcher is not None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._poll.unregister(self._launcher)
            launcher, self._launcher = self._launcher, None
            launcher.stop()
        for group in [*self._ended, *self._grouped.values()]:
            group.remove()  # most went with the launcher
        self._ended.clear()
        self._grouped.clear()
