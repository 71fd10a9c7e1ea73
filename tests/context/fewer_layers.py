"""A model's file with only its first layers: the same tokenizer, chat template and window, a fraction of the time.

What llama.cpp's server counts does not depend on the layers, only what the model says does.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


@dataclass(frozen=True)
class _Tensor:
    name: bytes
    shape: bytes
    """Number of dimensions, dimensions, type: as they stand in the file."""
    offset: int


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def number(self, size: int) -> int:
        return int.from_bytes(self.file.read(size), "little")

    def text(self) -> bytes:
        return self.file.read(self.number(8))

    def skip(self, kind: int) -> None:
        if kind == _STRING:
            self.file.seek(self.number(8), 1)
        elif kind == _ARRAY:
            inner, count = self.number(4), self.number(8)
            for _ in range(count if inner in (_STRING, _ARRAY) else 0):
                self.skip(inner)
            self.file.seek(_SCALARS.get(inner, 0) * count, 1)
        else:
            self.file.seek(_SCALARS[kind], 1)

    def tensor(self) -> _Tensor:
        name = self.text()
        dimensions = self.number(4)
        shape = struct.pack("<I", dimensions) + self.file.read(8 * dimensions + 4)
        return _Tensor(name, shape, self.number(8))


def with_layers(source: Path, target: Path, layers: int) -> Path:
    """Write `source` to `target` with its first `layers` layers only."""
    with source.open("rb") as file, target.open("wb") as out:
        reader = _Reader(file)
        file.seek(8)
        count, pairs = reader.number(8), reader.number(8)
        head, depth = file.tell(), 0
        for _ in range(pairs):
            key, kind = reader.text(), reader.number(4)
            if key.endswith(b".block_count"):
                depth = file.tell()
            reader.skip(kind)
        end = file.tell()
        tensors = [reader.tensor() for _ in range(count)]
        data = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
        size = source.stat().st_size - data
        starts = sorted(tensor.offset for tensor in tensors)
        ends = dict(zip(starts, [*starts[1:], size], strict=True))
        kept = [t for t in tensors if (n := re.match(rb"blk\.(\d+)\.", t.name)) is None or int(n[1]) < layers]
        assert depth, "no depth in the metadata"
        assert len(kept) < count, "no layers by the names that are known"

        file.seek(head)
        metadata = bytearray(file.read(end - head))
        metadata[depth - head : depth - head + 4] = struct.pack("<I", layers)
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(kept), pairs) + metadata)
        offset = 0
        for tensor in kept:
            out.write(struct.pack("<Q", len(tensor.name)) + tensor.name + tensor.shape + struct.pack("<Q", offset))
            offset += ends[tensor.offset] - tensor.offset
        out.write(b"\0" * (-out.tell() % _ALIGNMENT))
        for tensor in kept:
            file.seek(data + tensor.offset)
            out.write(file.read(ends[tensor.offset] - tensor.offset))
    return target
