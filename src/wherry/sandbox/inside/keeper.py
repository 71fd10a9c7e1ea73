"""The process outside of the walls that clears up after the launcher, whoever was killed in whatever way."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from . import kernel

_TRIES, _PAUSE_SECONDS = 100, 0.01


def end_with_host(child: int) -> None:
    """In the launcher's parent: when the host dies, end the launcher; this process lives on to clear up."""

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    host = os.getppid()
    signal.signal(signal.SIGTERM, end)
    kernel.prctl("parent death signal", kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != host:  # it died just before
        end()


def wait_for_all() -> None:
    """Wait until no process is left: the launcher, then the sessions that outlived it for a moment."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


class LeftGroups:
    """The control groups that sessions of a launcher may leave. Opened while their paths still lead there."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._found: list[tuple[int, str]] = []
        for prefix in prefixes:
            above, start = os.path.split(prefix)
            with contextlib.suppress(OSError):
                self._found.append((os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), start))

    def close(self) -> None:
        """In the launcher, which has no business with them."""
        for handle, _ in self._found:
            os.close(handle)

    def remove(self) -> None:
        """Remove them. Since Linux 6.18 a group is busy for a moment after its last process was waited for."""
        for _ in range(_TRIES):
            if not sum(_remove(handle, start) for handle, start in self._found):
                return
            time.sleep(_PAUSE_SECONDS)


def _remove(above: int, start: str) -> int:
    """How many are left."""
    left = 0
    for name in os.listdir(above):
        if name.startswith(start):
            try:
                os.rmdir(name, dir_fd=above)
            except (FileNotFoundError, PermissionError):  # gone, or root's, whom this process has ceased to be
                continue
            except OSError:
                left += 1
    return left
