"""What SQLite says went wrong, as an error with a way out."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from wherry.errors import StoreError

_ADVICE: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: (
        "is full: the disk, or a limit on the file's size, has no more room",
        "make room and run again; everything that was committed is intact",
    ),
    sqlite3.SQLITE_READONLY: (
        "cannot be written: the file, its folder or the file system is read-only",
        "give this user write permission on the file and its folder, or choose another file with WHERRY_STORE",
    ),
    sqlite3.SQLITE_BUSY: (
        "is locked: another process kept writing for the whole time that was waited",
        "look for a process that holds the file open (`fuser FILE`), or wait longer with `?timeout=SECONDS` in the URL",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged: its content is not what SQLite wrote",
        "keep a copy, then save what can be read with `sqlite3 FILE .recover | sqlite3 NEW_FILE`, "
        "or restore a backup; a network file system is no place for it",
    ),
    sqlite3.SQLITE_NOTADB: (
        "is not an SQLite database",
        "is the path right? Move the file away, or choose another with WHERRY_STORE",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "does its folder exist, is the path a file, and may this user read and write there?",
    ),
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written: the system reports an input/output error",
        "look at the disk's free space, quota and health; everything that was committed is intact",
    ),
    sqlite3.SQLITE_TOOBIG: (
        "takes no single value of more than 1 GB",
        "keep large values as artifacts",
    ),
}
_ADVICE[sqlite3.SQLITE_LOCKED] = _ADVICE[sqlite3.SQLITE_BUSY]
_ADVICE[sqlite3.SQLITE_PERM] = _ADVICE[sqlite3.SQLITE_READONLY]
_ADVICE[sqlite3.SQLITE_AUTH] = _ADVICE[sqlite3.SQLITE_READONLY]


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without the extended part; 0 for an error that the Python module made."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def as_store_error(error: sqlite3.Error, url: str) -> StoreError:
    what, hint = _ADVICE.get(primary_code(error), ("failed", None))
    if "no such module: fts5" in str(error):
        what, hint = (
            "cannot be made: this Python's SQLite has no full text search",
            "use a Python whose SQLite has FTS5",
        )
    return StoreError(f"the store {url!r} {what} (SQLite: {error})", hint=hint)


@contextmanager
def store_errors(url: str) -> Generator[None, None, None]:
    """Turn SQLite's errors into StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_store_error(error, url) from error
