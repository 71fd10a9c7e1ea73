"""`read_artifact`: any part of a content that was too large for the context."""

from __future__ import annotations

import codecs
import re

from wherry.errors import StoreError, ToolError
from wherry.store.protocol import Artifacts
from wherry.store.records import ArtifactRef
from wherry.tools.builtin.excerpts import Excerpt
from wherry.tools.context import current_context
from wherry.tools.tool import Tool

DEFAULT = 4_000
"""Bytes of one call that does not say how many."""
LARGEST = 20_000
"""Bytes that one call gives at most."""
_HEX = 512
"""Bytes of a binary content that one call shows."""

_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_READ = re.compile(r"\[(a-[0-9a-f]{12,64}): bytes (\d{1,15}) to (\d{1,15}) of \d{1,15}, [^\n]{1,200}\]\n")


class ReadArtifact(Tool):
    """Reads a part of what the store of the run keeps."""

    name = "read_artifact"
    gives_back = True
    description = "Read a part of a stored content."

    def forward(self, ref: str, offset: int = 0, limit: int = DEFAULT) -> str:
        """Read a part of a stored content.

        Args:
            ref: the reference in the preview
            offset: byte to start at
            limit: bytes to read, at most 20000
        """
        artifacts = current_context().store.artifacts
        info = known(artifacts, ref)
        if offset < 0:
            offset = max(info.bytes + offset, 0)  # from the end, as Python counts
        if offset >= info.bytes:
            return f"[nothing at byte {offset}: {info.ref} has {info.bytes} bytes]"
        try:
            data = artifacts.read(info.ref, offset, min(max(limit, 4), LARGEST))
        except StoreError as error:
            raise gone(info.ref, error) from error
        return excerpt(info, offset, data)


read_artifact = ReadArtifact()


def known(artifacts: Artifacts, ref: str) -> ArtifactRef:
    """What the store knows of an artifact.

    Raises:
        ToolError: There is none of that name.
    """
    try:
        return artifacts.info(ref.strip())
    except StoreError as error:
        raise ToolError(f"there is no artifact {ref[:80]!r}: copy the ref from a preview, exactly") from error


def gone(ref: str, error: StoreError) -> ToolError:
    """What a model is told where the store has a name but no content any more."""
    return ToolError(f"the content of {ref} cannot be read any more: {error.message}; only its preview is left")


def excerpt(info: ArtifactRef, offset: int, data: bytes) -> Excerpt:
    """`data`, the bytes of an artifact from `offset` on, under a line that says what they are."""

    def render(size: int) -> str:
        # Escaping for a reader of bytes: a character takes at least one, so no more than `size` are of use.
        start, text, used = _text(data[: max(size, 4)], first=offset == 0)
        if text is None:
            shown = data[: min(_HEX, max(size // 2, 4))]
            start, text, used = 0, shown.hex(" ", -4), len(shown)
        end = offset + used
        rest = f"next offset {end}" if end < info.bytes else "the end"
        return f"[{info.ref}: bytes {offset + start} to {end} of {info.bytes}, {info.media_type}; {rest}]\n{text}"

    return Excerpt.of(render, len(data) * 3)


def read_back(artifacts: Artifacts, text: str) -> Excerpt | None:
    """The excerpt that `text` is, byte for byte, where code has printed what `read_artifact` gave; else None."""
    found = _READ.match(text)
    if found is None:
        return None
    start, end = int(found[2]), int(found[3])
    if not 0 < end - start <= LARGEST + 4:
        return None
    try:
        info = artifacts.info(found[1])
        data = artifacts.read(info.ref, start, end - start)
    except StoreError:
        return None
    made = excerpt(info, start, data)
    return made if made.partition("\n")[2].rstrip() == text[found.end() :].rstrip() else None


def _text(data: bytes, *, first: bool) -> tuple[int, str | None, int]:
    """(bytes skipped, text, bytes used); a character that `data` cuts in two is left to the part that has it whole."""
    start = 0
    while not first and start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    # A lone surrogate was stored as three bytes; so many has the mark that stands for it, too.
    data = _SURROGATE.sub(b"\xef\xbf\xbd", data) if b"\xed" in data else data
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data[start:])
    waiting = len(decoder.getstate()[0])
    if not text or "\0" in text or text.count("�") > len(text) // 10:
        return 0, None, 0
    return start, text, len(data) - waiting
