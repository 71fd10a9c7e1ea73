"""Where knowledge comes from: files, folders, texts. What cannot be read is named, with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.errors import ConfigurationError

MOST_FILES = 10_000
LARGEST_FILE = 16 << 20
"""Bytes of one document."""
_SAMPLE = 8_192


@dataclass(frozen=True, slots=True)
class Source:
    """A document that can be read."""

    name: str
    signature: tuple[object, ...]
    """As long as it is the same, so is the document."""
    read: Callable[[], str]
    """
    Raises:
        Unreadable: It says why.
    """


class Unreadable(Exception):
    """A document that is left out. The message says why."""


def check(paths: Sequence[Path]) -> None:
    """
    Raises:
        ConfigurationError: A path leads nowhere.
    """
    for path in paths:
        if not path.exists():
            raise ConfigurationError(
                f"the knowledge {str(path)!r} does not exist",
                hint="give paths of files or folders; texts go into `texts={name: text}`",
            )


def sources(paths: Sequence[Path], texts: Mapping[str, str], *, skip: Callable[[str, str], None]) -> Iterator[Source]:
    """All documents, in an order that does not change.

    Args:
        skip: Told of each document of a folder that is left out: its name, and why.

    Raises:
        ConfigurationError: A path leads nowhere any more, or a folder has too many files.
    """
    check(paths)
    for name, text in texts.items():
        yield Source(name, ("text", text), lambda text=text: text)
    count = 0
    for path in paths:
        found = _folder(path, skip) if path.is_dir() else iter([(path.name, path)])
        for name, file in found:
            count += 1
            if count > MOST_FILES:
                raise ConfigurationError(
                    f"the knowledge {str(path)!r} has more than {MOST_FILES:,} files",
                    hint="name the folder that has the documents only",
                )
            try:
                state = file.stat()
            except OSError as error:
                skip(name, f"cannot be read: {error.strerror}")
                continue
            signature = (str(file), state.st_mtime_ns, state.st_size, state.st_ino)
            yield Source(name, signature, lambda file=file: _read(file))


def _folder(folder: Path, skip: Callable[[str, str], None]) -> Iterator[tuple[str, Path]]:
    """Files of a folder and of all below it. No hidden ones, and no link that leads out of it."""
    inside = folder.resolve()

    def failed(error: OSError) -> None:
        skip(os.path.relpath(error.filename or folder, folder), f"cannot be read: {error.strerror}")

    for parent, folders, files in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (Path(parent) / name).is_symlink():
                skip(os.path.relpath(Path(parent) / name, folder), "is a link to a folder")
        for name in sorted(files):
            file = Path(parent) / name
            shown = f"{folder.name or inside.name}/{os.path.relpath(file, folder)}"
            if name.startswith("."):
                continue
            if file.is_symlink() and not file.resolve().is_relative_to(inside):
                skip(shown, "is a link that leads out of the folder")
            elif not file.is_file():
                skip(shown, "is no file")
            else:
                yield shown, file


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise Unreadable(f"is larger than {LARGEST_FILE >> 20} MB")
        data = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    return decoded(data)


def decoded(data: bytes) -> str:
    """The text of a document.

    Raises:
        Unreadable: It is none.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:_SAMPLE]:
        raise Unreadable("is no text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    # Neither UTF-8 nor anything with zero bytes: most likely the Western European of an old text editor.
    sample = data[:_SAMPLE]
    odd = sum(1 for byte in sample if byte < 32 and byte not in b"\n\r\t\f") + sum(1 for byte in sample if byte > 126)
    if odd * 4 > len(sample):
        raise Unreadable("is no text")
    return data.decode("cp1252", "replace")
