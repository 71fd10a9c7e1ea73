"""Removing folders that hostile code filled: of any depth, with any names and modes, without following a link."""

from __future__ import annotations

import contextlib
import os
import stat


def remove_tree(folder: str) -> None:
    """Remove a folder that nobody works in any more, and all that is in it. What cannot be removed stays.

    Folders are moved up before they are emptied, so that neither depth nor the length of a path is ever a limit.
    """
    found = [folder]
    for current in found:  # grows while it is walked
        try:
            os.chmod(current, 0o700)  # `mkdir(mode=0)` is anybody's right
            names = os.listdir(current)
        except OSError:
            continue
        for name in names:
            path = os.path.join(current, name)
            with contextlib.suppress(OSError):
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    os.unlink(path)
                    continue
                if current is not folder:
                    os.chmod(path, 0o700)  # moving a folder writes to it
                    moved = os.path.join(folder, f"\n{len(found)}")
                    os.rename(path, moved)
                    path = moved
                found.append(path)
    for path in reversed(found):
        with contextlib.suppress(OSError):
            os.rmdir(path)
