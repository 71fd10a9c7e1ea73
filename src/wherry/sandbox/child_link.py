"""A session's process that is an ordinary child of the host, on any POSIX system."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import threading
from concurrent.futures import Future
from typing import IO

from wherry.errors import SandboxError

from .launch import read_complaints
from .links import Exit, Refusals
from .scratch import Scratch


class WorkPlace:
    """A folder of the host's that one session works in."""

    def __init__(self) -> None:
        self._scratch = Scratch(private=True)  # of a host that was killed, the next one removes it
        self.path = self._scratch.path
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._owner = os.getpid()
        atexit.register(self.remove)  # should nobody close the session

    def remove(self) -> None:
        """Safe to call twice. In a forked copy of the host the folder stays: it is the parent's."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            atexit.unregister(self.remove)
            if os.getpid() == self._owner:
                self._scratch.remove()
            else:
                self._scratch.forget()


class ChildLink:
    """See `ProcessLink`."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes], place: WorkPlace | None = None) -> None:
        """Args:
        sock: our end.
        process: the child at the other end.
        place: where it works; goes when the session is closed.
        """
        self.sock = sock
        self.refusals = Refusals()
        self.exit: Future[Exit] = Future()
        self._process = process
        self._place = place
        self._owner = os.getpid()
        # A thread for each: these tiers are not for sessions by the hundred, and every child must be reaped.
        threading.Thread(target=_reap, args=(process, self.exit), name="wherry-child", daemon=True).start()

    @property
    def folder(self) -> int | None:
        """See `ProcessLink.folder`."""
        return self._place.descriptor if self._place is not None and self._place.descriptor >= 0 else None

    def printed(self, cap: int) -> str:
        """See `ProcessLink.printed`: nothing does, it is sent when a snippet ends."""
        return ""

    def signal(self, number: int) -> None:
        if os.getpid() != self._owner:  # a forked copy of the host; the process is the parent's
            return
        with contextlib.suppress(OSError):
            self._process.send_signal(number)  # knows whether the process was reaped, so that it hits no other one

    def kill(self) -> None:
        """End the process at once. Safe to call twice, and from a finalizer."""
        if self.sock.fileno() >= 0:
            if os.getpid() == self._owner:
                with contextlib.suppress(OSError):
                    self._process.kill()
            self.sock.close()

    def release(self) -> None:
        """See `ProcessLink.release`."""
        self.kill()
        if self._place is not None:
            if os.getpid() == self._owner:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)  # it must not go on writing there
            self._place.remove()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # the interpreter may be shutting down
            self.release()


def _reap(process: subprocess.Popen[bytes], told: Future[Exit]) -> None:
    # Not a method: a thread that held the link would keep every forgotten session alive.
    told.set_result(Exit(process.wait()))


def greet(link: ChildLink, options: bytes, complaints: IO[bytes], *, seconds: float = 20.0) -> bytes:
    """Send the options, and wait for the worker to say that it is ready.

    Returns:
        What it said.

    Raises:
        SandboxError: it did not say so; its process is ended.
    """
    link.sock.settimeout(seconds)
    problem = ""
    try:
        link.sock.sendall(options)
        greeting = link.sock.recv(1 << 16)
    except OSError as error:
        greeting, problem = b"", str(error)
    if not greeting:
        link.kill()
        with contextlib.suppress(TimeoutError):
            link.exit.result(2)  # then all that it had to say is written
        link.release()
        raise SandboxError(f"the process did not start: {read_complaints(complaints) or problem or 'without a word'}")
    link.sock.setblocking(False)
    return greeting
