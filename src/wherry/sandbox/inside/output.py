"""What a snippet prints: kept while it is written, head and tail, so that a flood costs a fixed amount of memory."""

from __future__ import annotations

import io


class Capture(io.RawIOBase):
    """Keeps the first three quarters and the last quarter of `cap` bytes."""

    def __init__(self, cap: int) -> None:
        self._head_room = cap - cap // 4
        self._tail_room = cap // 4
        self._head = bytearray()
        self._tail = bytearray()
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # pyright: ignore[reportArgumentType]  # whatever it is, memoryview says whether it has bytes
        size = view.nbytes
        self._written += size
        room = self._head_room - len(self._head)
        if room > 0:
            self._head += view[:room]
            view = view[room:]
        if view.nbytes:
            self._tail += view[-self._tail_room :]
            if len(self._tail) > 2 * self._tail_room:  # trimmed seldom, so that small writes stay cheap
                del self._tail[: -self._tail_room]
        return size

    def take(self) -> str:
        """What was written since the last call."""
        tail = self._tail[-self._tail_room :]
        lost = self._written - len(self._head) - len(tail)
        text = self._head.decode("utf-8", "replace")
        if lost:
            text += f"\n[... {lost:,} bytes left out ...]\n"
        text += tail.decode("utf-8", "replace")
        self._head, self._tail, self._written = bytearray(), bytearray(), 0
        return text


def text_stream(capture: Capture) -> io.TextIOWrapper:
    """A text file over `capture` that keeps no text back."""
    return io.TextIOWrapper(capture, "utf-8", "backslashreplace", write_through=True)  # pyright: ignore[reportArgumentType]
