"""`read_artifact`: any part of a content that was too large for the context."""

from __future__ import annotations

import codecs

from wherry.errors import StoreError, ToolError
from wherry.tools.context import current_context
from wherry.tools.tool import Tool

DEFAULT = 4_000
"""Bytes of one call that does not say how many."""
LARGEST = 20_000
"""Bytes that one call gives at most."""
_HEX = 512
"""Bytes of a binary content that one call shows."""


class ReadArtifact(Tool):
    """Reads a part of what the store of the run keeps."""

    name = "read_artifact"
    description = "Read a part of a stored content."

    def forward(self, ref: str, offset: int = 0, limit: int = DEFAULT) -> str:
        """Read a part of a stored content.

        Args:
            ref: the reference in the preview
            offset: byte to start at
            limit: bytes to read, at most 20000
        """
        artifacts = current_context().store.artifacts
        try:
            info = artifacts.info(ref)
        except StoreError as error:
            raise ToolError(f"there is no artifact {ref!r}: copy the ref from a preview, exactly") from error
        if offset < 0:
            offset = max(info.bytes + offset, 0)  # from the end, as Python counts
        if offset >= info.bytes:
            return f"[nothing at byte {offset}: the content has {info.bytes} bytes]"
        data = artifacts.read(ref, offset, min(max(limit, 4), LARGEST))
        start, text, used = _text(data, first=offset == 0)
        if text is None:
            text, start, used = data[:_HEX].hex(" ", -4), 0, min(len(data), _HEX)
        end = offset + used
        rest = f"next offset {end}" if end < info.bytes else "the end"
        return f"[bytes {offset + start} to {end} of {info.bytes}, {info.media_type}; {rest}]\n{text}"


read_artifact = ReadArtifact()


def _text(data: bytes, *, first: bool) -> tuple[int, str | None, int]:
    """(bytes skipped, text, bytes used); a character that `data` cuts in two is left to the part that has it whole."""
    start = 0
    while not first and start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data[start:])
    waiting = len(decoder.getstate()[0])
    if not text or "\0" in text or text.count("�") > len(text) // 10:
        return 0, None, 0
    return start, text, len(data) - waiting
