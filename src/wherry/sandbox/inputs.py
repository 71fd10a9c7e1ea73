"""What is put into a fresh session: names are checked, files are found, both before anything is sent."""

from __future__ import annotations

import base64
import keyword
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wherry.errors import ConfigurationError

from .frames import FrameError, encode
from .inside.encoding import ValueTooLargeError
from .inside.encoding import encode as encoded
from .limits import SandboxLimits

_PIECE = 1 << 20


def check_names(names: Sequence[str], what: str) -> None:
    """Raises:
    ConfigurationError: one of them cannot be a variable.
    """
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ConfigurationError(f"{what} {name!r} is no Python name", hint="use letters, digits and `_`")


def variable_frames(variables: Mapping[str, Any]) -> list[bytes]:
    """One frame a variable.

    Raises:
        ConfigurationError: a value is no data or does not fit a frame.
    """
    frames: list[bytes] = []
    for name, value in variables.items():
        try:
            tree = encoded(value, strict=True, tuples=True, huge=True)
            frames.append(encode({"t": "set", "name": name, "value": tree}))
        except (FrameError, ValueTooLargeError) as error:
            raise ConfigurationError(f"variable `{name}`: {error}", hint="give it as a file") from error
        except (TypeError, ValueError, RecursionError) as error:
            hint = "give its data: numbers, texts, lists, dicts, dates, arrays, data frames"
            raise ConfigurationError(f"variable `{name}`: {error}", hint=hint) from error
    return frames


def find_files(files: Sequence[Path], limits: SandboxLimits) -> dict[str, Path]:
    """Name inside -> file. Links in a folder are not followed.

    Raises:
        ConfigurationError: one is missing, two have one name, or all are larger than the disk limit.
    """
    found: dict[str, Path] = {}
    for path in map(Path, files):
        if not path.exists():
            raise ConfigurationError(f"no file at {str(path)!r}")
        inner = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink()] if path.is_dir() else [path]
        for file in inner:
            name = str(file.relative_to(path.parent))
            if name in found:
                raise ConfigurationError(f"two files are named {name!r}")
            found[name] = file
    size = sum(file.stat().st_size for file in found.values())
    if size > limits.disk_bytes:
        raise ConfigurationError(f"the files have {size:,} bytes; the sandbox allows {limits.disk_bytes:,}")
    return found


def file_frames(name: str, path: Path) -> Iterator[dict[str, Any]]:
    """The file in pieces."""
    with path.open("rb") as file:
        piece = file.read(_PIECE)
        while True:
            yield {"t": "file", "name": name, "data": base64.b64encode(piece).decode("ascii")}
            piece = file.read(_PIECE)
            if not piece:
                return
