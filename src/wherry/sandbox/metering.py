"""Tier `landlock`: what a session uses where no kernel object of its own bounds it. The host counts, call by call."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Sequence

from . import syscalls

_SMALLEST = 1024
"""Bytes that any write counts for: each costs the host some 20 microseconds, so that they too are bounded."""
_UNSEEN_SECONDS = 0.02
"""How long a thread that was allowed may take to show up in the kernel's count."""
_COUNTED = frozenset({*syscalls.ARGUMENT_OF_SIZE, *syscalls.CREATING, *syscalls.OPENING})


class Meter:
    """Asked before each call that takes more of something. What was given back does not count.

    A file that was unlinked while open still takes space that nobody can see: only what was written in all is known.
    """

    def __init__(self, *, disk_bytes: int, inodes: int, threads: int) -> None:
        self._bytes, self._entries, self._threads = disk_bytes, inodes, threads
        self._granted: dict[int, float] = {}

    def measures(self, call: str, args: Sequence[int]) -> bool:
        """Whether it is one of the calls that are counted, and not one that is refused."""
        if call == "clone":
            return bool(args[0] & syscalls.CLONE_THREAD)
        return call in _COUNTED

    def judge(self, call: str, args: Sequence[int], thread: int) -> int:
        """Whether a call may go on.

        Args:
            call: its name.
            args: its arguments, as the registers have them.
            thread: the id of the thread that makes it.

        Returns:
            0, or the number of the error that it gets.
        """
        if call == "clone":
            return self._judge_thread(thread)
        position = syscalls.ARGUMENT_OF_SIZE.get(call)
        if position is None:
            return self._take_entry()
        return self._take_bytes(args[position])

    def _take_entry(self) -> int:
        if self._entries <= 0:
            return errno.ENOSPC
        self._entries -= 1
        return 0

    def _take_bytes(self, size: int) -> int:
        if max(size, _SMALLEST) > self._bytes:
            return errno.ENOSPC
        self._bytes -= max(size, _SMALLEST)
        return 0

    def _judge_thread(self, thread: int) -> int:
        """The kernel counts threads, but not one that it was only now allowed to start."""
        now = time.monotonic()
        self._granted = {who: at for who, at in self._granted.items() if who != thread and now - at < _UNSEEN_SECONDS}
        if _threads_of(thread) + len(self._granted) >= self._threads:
            return errno.EAGAIN
        self._granted[thread] = now
        return 0


def _threads_of(thread: int) -> int:
    """How many threads the process has that this one belongs to."""
    with contextlib.suppress(OSError), open(f"/proc/{thread}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rsplit(")", 1)[1].split()[17])
    return 1 << 30  # gone, or hidden: no more threads for what cannot be seen
