"""What a snippet prints: kept while it is written, head and tail, so that a flood costs a fixed amount of memory.

Where the host shares the memory, it can be read there even after the process was killed.
"""

from __future__ import annotations

import io
import mmap
import struct

_WRITTEN = struct.Struct("<Q")


def shared_size(cap: int) -> int:
    """Bytes of memory that `Capture` takes for `cap` bytes of text."""
    return _WRITTEN.size + cap


class Capture(io.RawIOBase):
    """Keeps the first three quarters and the last quarter of `cap` bytes."""

    def __init__(self, cap: int, memory: mmap.mmap | bytearray | memoryview | None = None) -> None:
        """Args:
        cap: bytes that are kept.
        memory: where, `shared_size(cap)` bytes of zeros.
        """
        self._head_room = cap - cap // 4
        self._tail_room = cap // 4
        self._memory = _private(shared_size(cap)) if memory is None else memory
        self._tail_at = _WRITTEN.size + self._head_room
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # pyright: ignore[reportArgumentType]  # whatever it is, memoryview says whether it has bytes
        view = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        size, memory, before = view.nbytes, self._memory, self._written
        if before < self._head_room:
            piece = view[: self._head_room - before]
            memory[_WRITTEN.size + before : _WRITTEN.size + before + len(piece)] = piece
        over = before + size - self._head_room
        if over > 0:
            self._write_tail(view[max(size - over, 0) :], max(over - size, 0))
        self._written = before + size
        _WRITTEN.pack_into(memory, 0, self._written)
        return size

    def _write_tail(self, view: memoryview, at: int) -> None:
        """A ring: what is older than its length is overwritten."""
        room = self._tail_room
        if not room:
            return
        at, view = at + max(len(view) - room, 0), view[-room:]
        while view:
            start = at % room
            piece = view[: room - start]
            self._memory[self._tail_at + start : self._tail_at + start + len(piece)] = piece
            at, view = at + len(piece), view[len(piece) :]

    def take(self) -> str:
        """What was written since the last call."""
        text = written_text(self._memory, self._head_room + self._tail_room)
        self._written = 0
        _WRITTEN.pack_into(self._memory, 0, 0)
        return text


def _private(size: int) -> mmap.mmap | bytearray:
    try:
        return mmap.mmap(-1, size)  # takes pages only as they are written
    except OSError:  # there is none in WebAssembly
        return bytearray(size)


def written_text(memory: mmap.mmap | bytes | bytearray | memoryview, cap: int) -> str:
    """The text in a `Capture`'s memory. On the host's side that memory is hostile: whatever it holds, there is a text.

    Args:
        memory: `shared_size(cap)` bytes, or fewer.
        cap: as the `Capture` was given.
    """
    if len(memory) < _WRITTEN.size:
        return ""
    (written,) = _WRITTEN.unpack_from(memory)
    head_room, tail_room = cap - cap // 4, cap // 4
    start = _WRITTEN.size
    text = bytes(memory[start : start + min(written, head_room)]).decode("utf-8", "replace")
    over = written - head_room
    if over <= 0:
        return text
    ring = bytes(memory[start + head_room : start + cap])
    if over > tail_room:
        text += f"\n[... {over - tail_room:,} bytes left out ...]\n"
        if tail_room:
            ring = ring[over % tail_room :] + ring[: over % tail_room]
    else:
        ring = ring[:over]
    return text + ring.decode("utf-8", "replace")


def text_stream(capture: Capture) -> io.TextIOWrapper:
    """A text file over `capture` that keeps no text back."""
    return io.TextIOWrapper(capture, "utf-8", "backslashreplace", write_through=True)  # pyright: ignore[reportArgumentType]
