"""Where the bytes of artifacts are, under their digest: a folder, or memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from wherry.failpoints import failpoint
from wherry.store.database import Connection

_UNNAMED = ".new-"


class Contents(Protocol):
    """Where the bytes are, by SHA-256 in hexadecimal."""

    def write(self, sha256: str, data: bytes, *, connection: Connection | None = None) -> None:
        """Keep content; quick when it is there already.

        Args:
            connection: The transaction that this belongs to, for contents in the database itself.

        Raises:
            OSError: It cannot be written.
        """
        ...

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        """
        Raises:
            OSError, KeyError: The content is not there.
        """
        ...

    def remove(self, sha256: str, *, connection: Connection | None = None) -> None:
        """Remove content; no error when it is not there."""
        ...

    def names(self, *, before: float) -> Iterator[tuple[str, int]]:
        """All contents, and what is left of writes that never ended and began before a time; how many bytes each has.

        A name is what `remove` takes: a digest, or, of what is left, something else.
        """
        ...


class FolderContents:
    """Files, spread over 256 folders. A file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, sha256: str, data: bytes, *, connection: Connection | None = None) -> None:
        path = self._path(sha256)
        try:
            if path.stat().st_size == len(data):
                return
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_UNNAMED, dir=path.parent)
        failpoint("artifact.created")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                failpoint("artifact.written")
                os.fsync(file.fileno())
            failpoint("artifact.synced")
            os.replace(name, path)
            failpoint("artifact.renamed")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        with self._path(sha256).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if limit is None else limit)

    def remove(self, sha256: str, *, connection: Connection | None = None) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def names(self, *, before: float) -> Iterator[tuple[str, int]]:
        for path in self._folder.glob("??/*"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            if not path.name.startswith(_UNNAMED) or found.st_mtime < before:
                yield path.parent.name + path.name, found.st_size

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:]


class MemoryContents:
    """A dictionary."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def write(self, sha256: str, data: bytes, *, connection: Connection | None = None) -> None:
        self._contents[sha256] = data

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        return self._contents[sha256][offset : None if limit is None else offset + limit]

    def remove(self, sha256: str, *, connection: Connection | None = None) -> None:
        self._contents.pop(sha256, None)

    def names(self, *, before: float) -> Iterator[tuple[str, int]]:
        yield from [(sha256, len(data)) for sha256, data in self._contents.items()]
