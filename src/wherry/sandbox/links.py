"""A session's process as the host holds it: its socket, a handle to kill it by, and what it tried in vain."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from .inside.output import shared_size, written_text

MAX_REFUSED = 50
"""Refused system calls that are told one by one; more are counted."""
MAX_REFUSALS = 2000
"""Each refusal takes the host a few microseconds: a snippet that goes on and on is ended."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a session's process ended."""

    code: int
    """Exit code; negative: the signal."""
    cpu_seconds: float = 0.0


class ProcessLink(Protocol):
    """What a session needs of its process."""

    sock: socket.socket
    refusals: Refusals
    exit: Future[Exit]

    @property
    def folder(self) -> int | None:
        """A descriptor of the session's work folder, for reading files out of it with `openat2`; None without one.

        Good after the process has ended too, until `release`. What is below was written by hostile code: links may lead
        anywhere, names may be anything.
        """
        ...

    def printed(self, cap: int) -> str:
        """What the snippet that was under way had printed, as far as that outlives the process.

        Args:
            cap: bytes of output that a session keeps.
        """
        ...

    def signal(self, number: int) -> None: ...
    def kill(self) -> None: ...
    def release(self) -> None:
        """Kill, and let go of the folder. Safe to call twice."""
        ...


@dataclass(slots=True)
class Refusals:
    """Refused system calls of a session, written by the thread that answers them, read between snippets."""

    lines: list[str] = field(default_factory=list[str])
    count: int = 0
    denied: int = 0
    """Calls that are allowed, but were over a limit that the host keeps."""

    def add(self, line: str) -> None:
        self.count += 1
        if self.count <= MAX_REFUSED:
            self.lines.append(line)

    @property
    def flooded(self) -> bool:
        return self.count + self.denied > MAX_REFUSALS

    def take(self) -> tuple[str, ...]:
        self.denied = 0
        if not self.count:
            return ()
        more = self.count - len(self.lines)
        taken = (*self.lines, f"... and {more:,} more") if more > 0 else tuple(self.lines)
        self.lines, self.count = [], 0
        return taken


class Link:
    """A process by pidfd: a number that is never another process's, unlike a process id."""

    def __init__(self, sock: socket.socket, pidfd: int, folder: int | None = None) -> None:
        self.sock = sock
        self._folder = folder
        self._output: int | None = None
        self.refusals = Refusals()
        self.exit: Future[Exit] = Future()
        self._pidfd = pidfd
        self._lock = threading.RLock()  # a finalizer may run anywhere, also in here

    @property
    def folder(self) -> int | None:
        """See `ProcessLink.folder`."""
        return self._folder

    def keep(self, *, folder: int, output: int) -> None:
        """Take over the descriptors of the work folder and of the memory for what is printed."""
        self._folder, self._output = folder, output

    @property
    def pid(self) -> int:
        """The process's id as this process sees it.

        Raises:
            OSError: it has ended.
        """
        with self._lock, open(f"/proc/self/fdinfo/{self._pidfd}", encoding="ascii") as file:
            found = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
        if found <= 0:
            raise ProcessLookupError("the process has ended")
        return found

    def printed(self, cap: int) -> str:
        """See `ProcessLink.printed`."""
        with self._lock:
            return "" if self._output is None else written_text(os.pread(self._output, shared_size(cap), 0), cap)

    def signal(self, number: int) -> None:
        with self._lock:
            if self._pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End the process at once. Safe to call twice, and from a finalizer."""
        with self._lock:
            if self._pidfd < 0:
                return
            self.signal(signal.SIGKILL)
            handle, self._pidfd = self._pidfd, -1
            os.close(handle)
            self.sock.close()

    def release(self) -> None:
        """See `ProcessLink.release`."""
        with self._lock:
            self.kill()
            if self._folder is not None:
                folder, self._folder = self._folder, None
                os.close(folder)
            if self._output is not None:
                output, self._output = self._output, None
                os.close(output)

    def forget(self) -> None:
        """In a forked copy of the host: let go without touching the process, which is the parent's."""
        self._lock = threading.RLock()  # another thread may have held the old one at the fork, and is not here
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):  # it may have been in the middle of closing it
                os.close(self._pidfd)
            self._pidfd = -1
            self.sock.close()
        self.release()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # the interpreter may be shutting down
            self.release()
