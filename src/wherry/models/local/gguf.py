"""What a GGUF file says of itself, read without loading it."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Final

from wherry.errors import ModelFileError

# Scalar types of metadata values by their number, as `struct` formats. 8 is a string, 9 an array.
# Source: docs/gguf.md of the ggml project, versions 2 and 3.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# Tensor types by their number: (elements in a block, bytes of a block). Others are not checked for their length.
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    20: (32, 18), 23: (256, 136), 30: (1, 2),
}  # fmt: skip
_MOST_COUNTED = 10_000_000
"""More entries than any real file has: numbers beyond are noise, not lengths."""
_MOST_DIMENSIONS = 4
_MOST_KEPT = 4096
"""Longest array of numbers that is kept: what a model says of each of its layers, not a vocabulary."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array of weights."""

    name: str
    shape: Sequence[int]
    """The length of a row first."""
    kind: int
    """The number of its type in the ggml project's `enum ggml_type`."""
    size: int
    """Bytes; 0 where the type is not known."""


@dataclass(frozen=True, slots=True)
class GGUFInfo:
    """What wherry has to know of a model's file."""

    path: Path
    size: int
    architecture: str
    name: str
    context_length: int | None
    """Tokens that the model was trained for."""
    chat_template: str | None
    metadata: Mapping[str, Any]  # Any: numbers, texts, truth values
    """All that the file says, without the keys of the vocabulary."""
    tensors: Sequence[Tensor]

    def about(self, key: str) -> Any:  # Any: as in `metadata`
        """What the file says under its architecture's name; None when it says nothing."""
        return self.metadata.get(f"{self.architecture}.{key}")


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0

    def scalar(self, code: str) -> Any:  # Any: a number or a truth value, as the format says
        (value,) = struct.unpack_from("<" + code, self._data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def count(self) -> int:
        number = int(self.scalar("Q"))
        if number > _MOST_COUNTED:
            raise ValueError(f"a count of {number}")
        return number

    def string(self) -> str:
        size = self.count()
        if self.at + size > len(self._data):
            raise ValueError("a text beyond the end")
        text = self._data[self.at : self.at + size].decode("utf-8", "replace")
        self.at += size
        return text

    def value(self, kind: int) -> Any:  # Any: whatever the file holds there; None for a long array
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        return self.scalar(_SCALARS[kind])

    def _array(self) -> list[Any] | None:
        """An array of a few numbers; any other is passed over."""
        kind = int(self.scalar("I"))
        length = self.count()
        if kind == _STRING:
            # A vocabulary has 150,000 texts; this loop is most of the time that reading takes.
            unpack, data, at, end = struct.Struct("<Q").unpack_from, self._data, self.at, len(self._data)
            for _ in range(length):
                at += 8 + unpack(data, at)[0]
                if at > end:
                    raise ValueError("a text beyond the end")
            self.at = at
        elif kind == _ARRAY:
            for _ in range(length):
                self._array()
        elif length <= _MOST_KEPT:
            return [self.scalar(_SCALARS[kind]) for _ in range(length)]
        else:
            self.at += length * struct.calcsize("<" + _SCALARS[kind])
        return None


def read_gguf(path: Path) -> GGUFInfo:
    """Check that a file is a whole GGUF file and read what it says of itself.

    Looks at the head and the length only, never at the weights.

    Raises:
        ModelFileError: it cannot be read, is no GGUF, or is cut short.
    """
    try:
        stat = path.stat()
        if path.is_dir():
            raise ModelFileError(f"{path} is a folder, not a GGUF file")
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise ModelFileError(f"there is no model file {path}", hint="give the path of a GGUF file") from None
    except OSError as error:
        raise ModelFileError(f"the model file {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=16)
def _read(path: Path, size: int, _changed: int) -> GGUFInfo:
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] != b"GGUF":
            raise ModelFileError(f"{path} is no GGUF file: it begins with {head[:4]!r}")
        if len(head) < 8 or (version := struct.unpack_from("<I", head, 4)[0]) not in (2, 3):
            raise ModelFileError(f"{path} is cut short or a GGUF of a version that is not known")
        # Mapped, not read: the head grows with the vocabulary (2 to 12 MB), the weights behind it are not touched.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                metadata, tensors, end = _walk(data)
            except (struct.error, ValueError, KeyError, OverflowError, RecursionError) as error:
                raise ModelFileError(
                    f"{path} is cut short or damaged: its head (GGUF version {version}) cannot be read ({error})",
                    hint="fetch it again",
                ) from error
    if end > size:
        raise ModelFileError(f"{path} is cut short: {size:,} bytes of {end:,}", hint="fetch it again")
    architecture = str(metadata.get("general.architecture", ""))
    window = metadata.get(f"{architecture}.context_length")
    template = metadata.get("tokenizer.chat_template")
    return GGUFInfo(
        path=path,
        size=size,
        architecture=architecture,
        name=str(metadata.get("general.name", path.stem)),
        context_length=window if isinstance(window, int) else None,
        chat_template=template if isinstance(template, str) else None,
        metadata={key: value for key, value in metadata.items() if not key.startswith("tokenizer.")},
        tensors=tensors,
    )


def _walk(data: mmap.mmap) -> tuple[dict[str, Any], list[Tensor], int]:
    """The metadata (long arrays as None), the tensors, and where the file must end at the earliest."""
    reader = _Reader(data)
    reader.at = 8
    count, pairs = reader.count(), reader.count()
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = reader.string()
        metadata[key] = reader.value(int(reader.scalar("I")))
    last = 0
    tensors: list[Tensor] = []
    for _ in range(count):
        name = reader.string()
        dimensions = int(reader.scalar("I"))
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = [int(reader.scalar("Q")) for _ in range(dimensions)]
        kind, offset = int(reader.scalar("I")), int(reader.scalar("Q"))
        elements, width = _BLOCKS.get(kind, (1, 0))
        size = prod(shape) // elements * width
        tensors.append(Tensor(name, tuple(shape), kind, size))
        last = max(last, offset + size)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"an alignment of {alignment!r}")
    return metadata, tensors, -(-reader.at // alignment) * alignment + last
