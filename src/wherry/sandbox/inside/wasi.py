"""The same worker in WebAssembly. There are no descriptors to the host: one function is called, which waits for it.

No signal arrives here and no thread can be started. A snippet that computes cannot be asked to stop, only ended.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from . import worker
from .channel import MAX_FRAME, Channel, Interrupts, SnippetTimeout, frame
from .decoding import decode_inside
from .encoding import ValueTooLargeError

_call: Callable[[bytes], bytes] = importlib.import_module("_host").call  # built into that Python: the one way out


class Door(Channel):
    """Frames by calls: a call with bytes sends them, a call without waits for the next frame."""

    def __init__(self, interrupts: Interrupts) -> None:
        self.lock = threading.RLock()
        self.interrupts = interrupts

    def send(self, message: dict[str, Any]) -> None:
        data = frame(message)
        if len(data) > MAX_FRAME:
            raise ValueTooLargeError(f"the value is larger than {MAX_FRAME >> 20} MiB when written out")
        _call(data)

    def receive(self) -> dict[str, Any]:
        message = decode_inside(_call(b""))
        if message["t"] == "stop":
            if not self.interrupts.armed:
                return self.receive()
            self.interrupts.armed, self.interrupts.hit = False, True
            raise SnippetTimeout(message["reason"])
        return message


def main(*, stdout_bytes: int, modules: tuple[str, ...], work: str) -> NoReturn:
    os.chdir(work)
    os.environ.update(HOME=work, TMPDIR=work)
    tempfile.tempdir = None
    channel = Door(Interrupts())
    _call(worker.GREETING)
    worker.serve(channel, stdout_bytes=stdout_bytes, packages=modules)
