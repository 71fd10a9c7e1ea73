"""A folder for the launcher, where it builds its root or sessions have their work folders, or for one session."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path

from .inside.removal import remove_tree

_PREFIX = "wherry-jail-"
_YOUNG_SECONDS = 60.0
"""Between making a folder and locking it there is a moment."""


class Scratch:
    """An empty folder, and a lock on it for as long as this process uses it."""

    def __init__(self, *, private: bool = False) -> None:
        """Args:
        private: nobody else's to look into.
        """
        _sweep()
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        if not private:  # the launcher may be another user by then; inside are folders of 700
            os.chmod(self.path, 0o755)  # noqa: S103
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def remove(self) -> None:
        """Remove it, and what is left in it. Safe to call twice."""
        remove_tree(self.path)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def forget(self) -> None:
        """In a forked copy of the host: it is the parent's."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _sweep() -> None:
    """Remove the folders of hosts whose launchers were killed with them, so that nobody could clear up."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and _unused(path):
                remove_tree(str(path))


def _unused(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return time.time() - path.stat().st_mtime > _YOUNG_SECONDS
