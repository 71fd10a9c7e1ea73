"""Removing folders that hostile code filled: of any depth, with any names and modes, without following a link."""

from __future__ import annotations

import contextlib
import os
import stat

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: str) -> None:
    """Remove a folder that nobody works in any more, and all that is in it. What cannot be removed stays.

    Walks with one descriptor and no path, so that neither depth nor length is ever a limit.
    """
    above = os.path.dirname(os.path.abspath(folder))
    try:
        handle = os.open(above, _FOLDER)
    except OSError:
        return
    waiting = [[os.path.basename(folder)]]  # for each level, the folders that are still to be removed
    names = list[str]()
    try:
        while waiting:
            if waiting[-1]:
                inner = _enter(handle, waiting[-1][-1])
                if inner is None:
                    waiting[-1].pop()
                    continue
                os.close(handle)
                handle = inner
                names.append(waiting[-1].pop())
                waiting.append(_remove_files(handle))
            else:
                waiting.pop()
                if not names:
                    break
                outer = os.open("..", _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = outer
                with contextlib.suppress(OSError):
                    os.rmdir(names.pop(), dir_fd=handle)
    finally:
        os.close(handle)


def _enter(handle: int, name: str) -> int | None:
    with contextlib.suppress(OSError):
        os.chmod(name, 0o700, dir_fd=handle)  # `mkdir(mode=0)` is anybody's right
        return os.open(name, _FOLDER, dir_fd=handle)
    return None


def _remove_files(handle: int) -> list[str]:
    """Gives back the folders that are left."""
    folders: list[str] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(handle):
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    folders.append(name)
                else:
                    os.unlink(name, dir_fd=handle)
    return folders
