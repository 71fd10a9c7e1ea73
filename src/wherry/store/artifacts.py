"""Large values under their content: a row in SQLite says what they are, the bytes are files beside it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Protocol

from wherry.errors import StoreError
from wherry.store.connections import Connections
from wherry.store.records import ArtifactRef
from wherry.store.writer import Writer, blob, text

REF_DIGITS = 12
"""A reference has so many digits of the content's digest, and more only where two contents would share them."""


class Contents(Protocol):
    """Where the bytes are, by SHA-256 in hexadecimal."""

    def write(self, sha256: str, data: bytes) -> None: ...

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        """
        Raises:
            OSError, KeyError: The content is not there.
        """
        ...


class FolderContents:
    """Files, spread over 256 folders. A file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, sha256: str, data: bytes) -> None:
        path = self._path(sha256)
        try:
            if path.stat().st_size == len(data):
                return
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        with self._path(sha256).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if limit is None else limit)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:]


class MemoryContents:
    """A dictionary."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def write(self, sha256: str, data: bytes) -> None:
        self._contents[sha256] = data

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        return self._contents[sha256][offset : None if limit is None else offset + limit]


class SQLiteArtifacts:
    """Artifacts whose rows are in SQLite."""

    def __init__(self, connections: Connections, writer: Writer, contents: Contents) -> None:
        self._connections = connections
        self._writer = writer
        self._contents = contents

    def put(self, data: bytes, *, media_type: str, run_id: str) -> ArtifactRef:
        """
        Raises:
            StoreError: The content or its row cannot be written.
        """
        self._connections.check_usable()
        sha256 = hashlib.sha256(data).hexdigest()
        lines = data.count(b"\n") + (not data.endswith(b"\n") and len(data) > 0)
        try:
            self._contents.write(sha256, data)
        except OSError as error:
            raise StoreError(
                f"an artifact of {len(data):,} bytes cannot be kept beside {self._connections.url!r}: {error.strerror}",
                hint="look at the disk's free space and at the permissions of the folder",
                run_id=run_id,
            ) from error

        def write(connection: sqlite3.Connection) -> ArtifactRef:
            known = connection.execute(f"{_SELECT} WHERE sha256 = ?", (bytes.fromhex(sha256),)).fetchone()
            if known is not None:
                return _artifact(known)
            digits = REF_DIGITS
            while connection.execute("SELECT 1 FROM artifacts WHERE ref = ?", (_name(sha256, digits),)).fetchone():
                digits += 4
            row = (
                _name(sha256, digits),
                bytes.fromhex(sha256),
                len(data),
                blob(media_type),
                lines,
                run_id,
                time.time(),
            )
            connection.execute(_INSERT, row)
            return _artifact(row[:5])

        return self._writer.submit(write).result()

    def read(self, ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        """
        Raises:
            StoreError: There is no such artifact, or it is damaged.
            ValueError: `offset` or `limit` is negative.
        """
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError(f"offset {offset} and limit {limit} must not be negative")
        known = self.info(ref)
        try:
            data = self._contents.read(known.sha256, offset, limit)
        except (OSError, KeyError) as error:
            raise StoreError(
                f"the content of artifact {ref!r} cannot be read: {error}",
                hint="was the folder beside the store moved or cleaned?",
            ) from error
        whole = offset == 0 and (limit is None or limit >= known.bytes)
        if whole and hashlib.sha256(data).hexdigest() != known.sha256:
            raise StoreError(f"artifact {ref!r} is damaged: its content has another digest than when it was stored")
        return data

    def info(self, ref: str) -> ArtifactRef:
        """
        Raises:
            StoreError: There is no such artifact.
        """
        with self._connections.reading() as connection:
            row = connection.execute(f"{_SELECT} WHERE ref = ?", (ref.encode("utf-8", "replace").decode(),)).fetchone()
        if row is None:
            raise StoreError(f"there is no artifact {ref!r}", hint="references look like `a-0123456789ab`")
        return _artifact(row)


_INSERT = """
INSERT INTO artifacts (ref, sha256, bytes, media_type, lines, run_id, saved) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_SELECT = "SELECT ref, sha256, bytes, media_type, lines FROM artifacts"


def _name(sha256: str, digits: int) -> str:
    return f"a-{sha256[:digits]}"


def _artifact(row: tuple[str, bytes, int, bytes, int]) -> ArtifactRef:
    ref, sha256, size, media_type, lines = row
    return ArtifactRef(ref, sha256.hex(), size, text(media_type), lines)
