"""Files that snippets left in their work folder, read out by the folder's descriptor.

What is below was written by hostile code: links lead anywhere, names are anything, a file may be a pipe, a device, or
a gigabyte of nothing. The kernel resolves every name below the folder and through no link (`openat2`), nothing but
regular files is opened, and what is read is bounded. It works on the folder of a session that was killed too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import stat
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import anyio.to_thread

from .media_types import media_type

MAX_FILES = 100
"""Read out after one snippet."""
MAX_FILE = 32 << 20
MAX_TOTAL = 64 << 20
"""Bytes, of one file and of all of a snippet's together."""
MAX_SESSION = 64 << 20
"""Bytes of all files of a session: a file of holes takes no room inside, and all of its length here."""
IN_THREAD = 256 << 10
"""Bytes from which files are read, and contents hashed, in a thread: the event loop would stand meanwhile."""
MAX_ENTRIES = 20_000
"""Looked at; what is beyond is not seen."""
MAX_TOLD = 20
"""Of what was left out."""

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_HOW = struct.Struct("QQQ")
_PRIVATE = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that a snippet made or changed."""

    name: str
    """Its path in the work folder; what is no text in it is replaced. Hostile text: show it, never open it."""
    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not read, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What a snippet left."""

    files: tuple[OutputFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    """At most `MAX_TOLD`."""

    def __bool__(self) -> bool:
        return bool(self.files or self.left_out)


_Stamp = tuple[int, int, int, int]
_Change = tuple[str, bool, int]
"""Path, whether it is a regular file, size."""


class WorkFolder:
    """One session's folder, and what is known of it.

    Names that begin with a dot, and `__pycache__`, are the snippet's own: libraries keep their caches there.
    """

    def __init__(self, descriptor: int, *, most: int = MAX_SESSION) -> None:
        """Args:
        descriptor: of the folder; stays the caller's.
        most: bytes that are read out in all.
        """
        self._descriptor = descriptor
        self._room = most
        self._known: dict[str, _Stamp] = {}

    def note(self) -> None:
        """What is there now is no snippet's."""
        self._known = {path: stamp for path, stamp, _ in self._entries()}

    def collect(self) -> Collected:
        """What is new or has changed since the last time."""
        changed = self._changed()
        return self._read_all(self._descriptor, changed) if changed else Collected()

    async def collected(self) -> Collected:
        """As `collect`, large files in a thread. One call at a time."""
        changed = self._changed()
        if not changed:
            return Collected()
        if sum(size for _, regular, size in changed if regular) <= IN_THREAD:
            return self._read_all(self._descriptor, changed)
        own = os.dup(self._descriptor)  # the caller may close its own meanwhile, and the number be another folder's
        try:
            return await anyio.to_thread.run_sync(self._read_all, own, changed)
        finally:
            os.close(own)

    def _changed(self) -> list[_Change]:
        if not self._known and self._empty():
            return []
        found: dict[str, _Stamp] = {}
        changed: list[_Change] = []
        for path, stamp, regular in self._entries():
            found[path] = stamp
            if self._known.get(path) != stamp:
                changed.append((path, regular, stamp[1]))
        self._known = found
        return changed

    def _empty(self) -> bool:
        """Nothing there, as after most snippets: costs a third of looking properly."""
        with os.scandir(self._descriptor) as entries:
            return next(entries, None) is None

    def _entries(self) -> Iterator[tuple[str, _Stamp, bool]]:
        """Path, what tells one state of it from another, whether it is a regular file. Each file once."""
        folders, seen, count = ["."], set[int](), 0
        while folders:
            folder = folders.pop()
            for entry in self._listed(folder, MAX_ENTRIES - count):
                count += 1
                if entry.name.startswith(".") or entry.name in _PRIVATE:
                    continue
                path = entry.name if folder == "." else f"{folder}/{entry.name}"
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                elif status.st_ino not in seen:
                    seen.add(status.st_ino)
                    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    yield path, stamp, stat.S_ISREG(status.st_mode)

    def _listed(self, folder: str, most: int) -> Iterator[os.DirEntry[str]]:
        with (
            contextlib.suppress(OSError),
            _opened(self._descriptor, folder, os.O_DIRECTORY) as handle,
            os.scandir(handle) as entries,
        ):
            yield from itertools.islice(entries, most)

    def _read_all(self, folder: int, changed: list[_Change]) -> Collected:
        files: list[OutputFile] = []
        left_out: list[LeftOut] = []
        room = MAX_TOTAL
        for path, regular, _ in sorted(changed):
            name = shown(path)
            if not regular:
                left_out.append(LeftOut(name, "it is no regular file"))
                continue
            if len(files) >= MAX_FILES:
                left_out.append(LeftOut(name, f"only {MAX_FILES} files a snippet are kept"))
                continue
            data = _read(folder, path, min(MAX_FILE, room), self._room)
            if isinstance(data, str):
                left_out.append(LeftOut(name, data))
                continue
            room -= len(data)
            self._room -= len(data)
            files.append(OutputFile(name, data, media_type(name, data)))
        if len(left_out) > MAX_TOLD:
            more = len(left_out) - MAX_TOLD + 1
            left_out[MAX_TOLD - 1 :] = [LeftOut(f"{more:,} more", "see above")]
        return Collected(tuple(files), tuple(left_out))


def _read(folder: int, path: str, most: int, left: int) -> bytes | str:
    """The content, or why it was not read.

    Args:
        most: bytes of this file.
        left: bytes that the session still has.
    """
    try:
        with _opened(folder, path, os.O_NONBLOCK | os.O_NOCTTY) as handle:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):  # it was exchanged since it was listed
                return "it is no regular file"
            if status.st_size > most:
                return f"{status.st_size:,} bytes are too many"
            if status.st_size > left:
                return f"{status.st_size:,} bytes are too many: of this session's, {left:,} more are kept"
            most = min(most, left)
            with open(handle, "rb", closefd=False) as file:
                data = file.read(most + 1)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return data if len(data) <= most else "it grew while it was read"


@contextlib.contextmanager
def _opened(folder: int, path: str, flags: int) -> Generator[int]:
    handle = open_beneath(folder, path, flags)
    try:
        yield handle
    finally:
        os.close(handle)


def open_beneath(folder: int, path: str, flags: int = 0) -> int:
    """A descriptor for reading a file below `folder`, reached through no link and no mount.

    Raises:
        OSError: there is none, or the way leads through a link.
    """
    how = ctypes.create_string_buffer(_HOW.pack(os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0, _RESOLVE), 24)
    arguments = (ctypes.c_int(folder), ctypes.c_char_p(os.fsencode(path)), how, ctypes.c_size_t(_HOW.size))
    number = 0
    for _ in range(10):  # the kernel says "again" when something moves meanwhile
        handle: int = _libc().syscall(ctypes.c_long(_OPENAT2), *arguments)
        if handle >= 0:
            return handle
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)


def shown(path: str) -> str:
    """A name that can be written anywhere: no control characters, no lone surrogates, 200 characters."""
    text = os.fsencode(path).decode("utf-8", "replace")
    clean = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return clean if len(clean) <= 200 else f"{clean[:100]}...{clean[-97:]}"


_LIBC: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _LIBC:
        _LIBC.append(ctypes.CDLL(None, use_errno=True))
    return _LIBC[0]
