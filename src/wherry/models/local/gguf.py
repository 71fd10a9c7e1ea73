"""What a GGUF file says of itself, read without loading it."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Final

from wherry.errors import ModelFileError

# Scalar types of metadata values by their number, as `struct` formats. 8 is a string, 9 an array.
# Source: docs/gguf.md of the ggml project, versions 2 and 3.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# Tensor types by their number in `enum ggml_type`: (elements in a block, bytes of a block). Others are not checked for
# their length; numbers that are not here (4, 5, 31 to 33, 36 to 38) were taken out of ggml.
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip
_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
"""How the files of a split model are named."""
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
    """Bytes; of all files where the model is split."""
    weights: int
    """Bytes of all tensors, also of those whose type is not known."""
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

    Looks at the head and the length only, never at the weights. Of a model that is split into several files it is given
    the first, and reads the others beside it.

    Raises:
        ModelFileError: it cannot be read, is no GGUF, or is cut short; or a part of it is missing.
    """
    first = _checked(path)
    parts = first.metadata.get("split.count")
    if not isinstance(parts, int) or parts < 2:
        return first
    size, weights, tensors = first.size, first.weights, list(first.tensors)
    for other in _others(first, parts):
        size, weights = size + other.size, weights + other.weights
        tensors += other.tensors
    return replace(first, size=size, weights=weights, tensors=tensors)


def _others(first: GGUFInfo, parts: int) -> Iterator[GGUFInfo]:
    """The other files of a split model.

    Raises:
        ModelFileError: one is missing or is another model's, or the file that was given is not the first.
    """
    path, named = first.path, _PART.fullmatch(first.path.name)
    if named is None or int(named[3]) != parts:
        raise ModelFileError(
            f"{path} is one of {parts:,} files of a model, and its name does not tell the others'",
            hint=f"name them as they were made: NAME-00001-of-{parts:05}.gguf and so on",
        )
    if first.metadata.get("split.no") != 0 or int(named[2]) != 1:
        beginning = f"{named[1]}-00001-of-{named[3]}.gguf"
        raise ModelFileError(f"{path} is not the first file of its model", hint=f"give {path.with_name(beginning)}")
    for number in range(2, parts + 1):
        beside = path.with_name(f"{named[1]}-{number:05}-of-{named[3]}.gguf")
        if not beside.exists():
            raise ModelFileError(
                f"{path} is one of {parts:,} files of a model, and {beside.name} is not beside it",
                hint="fetch all parts into one folder",
            )
        other = _checked(beside)
        if (other.metadata.get("split.no"), other.metadata.get("split.count")) != (number - 1, parts):
            raise ModelFileError(f"{beside} is not part {number:,} of {parts:,}, as its name says")
        yield other


def _checked(path: Path) -> GGUFInfo:
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
                metadata, tensors, start, end = _walk(data)
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
        weights=max(sum(tensor.size for tensor in tensors), size - start),
        architecture=architecture,
        name=str(metadata.get("general.name", path.stem)),
        context_length=window if isinstance(window, int) else None,
        chat_template=template if isinstance(template, str) else None,
        metadata={key: value for key, value in metadata.items() if not key.startswith("tokenizer.")},
        tensors=tensors,
    )


def _walk(data: mmap.mmap) -> tuple[dict[str, Any], list[Tensor], int, int]:
    """The metadata (long arrays as None), the tensors, where their data begin, and the least length of the file."""
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
    start = -(-reader.at // alignment) * alignment
    return metadata, tensors, start, start + last
