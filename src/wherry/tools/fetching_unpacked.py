"""What a server sent, unpacked: never more than was asked for, however small it was packed."""

from __future__ import annotations

import zlib

from wherry.errors import ToolError
from wherry.tools.values import brief

_EITHER = 47
"""zlib's window bits: gzip's header or its own."""
_BARE = -15


class Unpacked:
    """The bytes of one answer. A small one that unpacks into gigabytes is cut, and takes no more room than that.

    Args:
        encoding: As the server's `Content-Encoding`.
        most: Bytes that are taken.

    Raises:
        ToolError: It is packed in a way that was not asked for.
    """

    def __init__(self, encoding: str, most: int) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ToolError(f"the answer is packed as {brief(encoding, 50)}, which was not asked for")
        self._unpack = None if self._encoding in ("", "identity") else zlib.decompressobj(_EITHER)
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0
        self._head = b""
        """What came first: a header of two bytes tells whether there is one."""
        self._ended = False
        self._cut = ""

    def take(self, raw: bytes) -> bool:
        """Take the next bytes as they came; whether more of them are wanted.

        Raises:
            ToolError: They are damaged.
        """
        while raw and not self._ended:
            room = self._most - self._size
            piece, raw = self._unpacked(raw, room + 1)
            if len(piece) > room:
                self._end(f"the page is larger than {self._most:,} bytes")
            self._parts.append(piece[:room])
            self._size += len(self._parts[-1])
        return not self._ended

    def all(self) -> bytes:
        return b"".join(self._parts)

    @property
    def cut(self) -> str:
        """Why this is not all, in a few words; empty if it is."""
        if self._unpack is not None and self._parts and not (self._unpack.eof or self._ended):
            return "the page ends in the middle of what was packed"
        return self._cut

    def _end(self, why: str = "") -> None:
        self._ended, self._cut = True, why

    def _unpacked(self, raw: bytes, most: int) -> tuple[bytes, bytes]:
        """At most so many bytes, and what is left of what they came as."""
        if self._unpack is None:
            return raw, b""
        behind = self._unpack.eof
        if behind:  # gzip may be several in a row
            self._unpack = zlib.decompressobj(_EITHER)
        try:
            piece = self._unpack.decompress(raw, most)
        except zlib.error:
            if behind:  # padding
                self._end()
                return b"", b""
            return self._bare(self._head + raw, most), b""
        if len(self._head) < 2:
            self._head += raw[:2]
        return piece, self._unpack.unused_data if self._unpack.eof else b""

    def _bare(self, raw: bytes, most: int) -> bytes:
        """Some servers leave out zlib's header."""
        self._unpack = zlib.decompressobj(_BARE)
        try:
            if self._encoding == "deflate" and len(self._head) < 2:
                return self._unpack.decompress(raw, most)
        except zlib.error:
            pass
        raise ToolError("the answer is damaged: it cannot be unpacked")
