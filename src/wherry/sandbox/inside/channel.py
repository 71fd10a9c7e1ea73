"""The session's end of the wire, and the signals that stop a snippet without breaking a frame in two."""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import stat
import struct
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .decoding import decode_inside
from .encoding import ValueTooLargeError, dumps

_LENGTH = struct.Struct("!I")
MAX_FRAME = 8 << 20
_READ, _LARGE_READ = 1 << 14, 1 << 18
"""The buffer of a read is made before it: a large one costs a mapping and its page faults each time."""
_REASONS = {
    signal.SIGUSR1: "the snippet ran into its time limit and was stopped; variables are kept",
    signal.SIGUSR2: "the snippet was interrupted",
}


class SnippetTimeout(BaseException):
    """Stops a snippet. No `Exception`, so that `except Exception` does not swallow it."""


class Interrupts:
    """Turns the host's signal into a `SnippetTimeout` in the snippet, and in nothing else."""

    def __init__(self) -> None:
        self.armed = False
        self.hit = False
        self._masked = False
        self._pending = ""
        self._thread = threading.get_ident
        self._main = threading.get_ident()
        for number in _REASONS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def arm(self) -> None:
        self.hit, self.armed = False, True

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self.armed:
            return
        self.armed, self.hit = False, True
        if self._masked:
            self._pending = _REASONS[signal.Signals(number)]
            return
        raise SnippetTimeout(_REASONS[signal.Signals(number)])

    def __enter__(self) -> None:
        if self._thread() == self._main:
            self._masked = True

    def __exit__(self, *_: object) -> None:
        if self._thread() == self._main:
            self._masked = False
            if self._pending:
                reason, self._pending = self._pending, ""
                raise SnippetTimeout(reason)


class Channel:
    """Frames over one descriptor, or over one each way. `lock` is held by whoever may read."""

    def __init__(self, descriptor: int, interrupts: Interrupts, *, output: int | None = None) -> None:
        self.lock = threading.RLock()
        self._descriptor = descriptor
        self.interrupts = interrupts
        self._buffer = bytearray()
        self._read, self._write, self._exit = os.read, _writer(descriptor if output is None else output), os._exit
        self._decode = decode_inside
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def send(self, message: dict[str, Any]) -> None:
        """Send a frame.

        Raises:
            ValueTooLargeError: it is larger than a frame may be; nothing was sent.
        """
        data = frame(message)
        if len(data) > MAX_FRAME:
            raise ValueTooLargeError(f"the value is larger than {MAX_FRAME >> 20} MiB when written out")
        with self.interrupts:
            while data:
                data = data[self._write(data) :]

    def receive(self) -> dict[str, Any]:
        """The next frame. Waiting can be interrupted, taking bytes cannot: no frame is ever lost in the middle."""
        size = _READ
        while True:
            if len(self._buffer) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    with self.interrupts:
                        body = bytes(self._buffer[_LENGTH.size : end])
                        del self._buffer[:end]
                    return self._decode(body)
            self._poll.poll()
            with self.interrupts:
                data = self._read(self._descriptor, size)
                if not data:
                    self._exit(0)  # the host is gone
                if len(data) == size:
                    size = _LARGE_READ
                self._buffer += data


def _writer(descriptor: int) -> Callable[[bytes], int]:
    """Sends, where it can: in the tier `landlock` the host counts every `write`, since it may go to a file."""
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        # Family and type are given, else Python asks the kernel for them, which the filter refuses.
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=descriptor).send
    return functools.partial(os.write, descriptor)


def frame(message: dict[str, Any]) -> bytes:
    body = dumps(message).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(body)) + body
