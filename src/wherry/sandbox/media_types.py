"""What kind of file it is, for whoever shows it later. A picture must look like one inside: its name may lie."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mimetypes import MimeTypes

BINARY = "application/octet-stream"
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"%PDF-": "application/pdf",
}
_PEEK = 4096


def media_type(name: str, data: bytes) -> str:
    """The media type of a file by its content, and by its name where the content does not say."""
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    guessed = _table().guess_type(name)[0] or ""
    if guessed == "image/svg+xml" and b"<svg" in data[:_PEEK]:
        return guessed
    if _is_text(data):
        return guessed if guessed.startswith("text/") or guessed in ("application/json", "text/csv") else "text/plain"
    claims_content = guessed.startswith(("image/", "text/")) or guessed == "application/pdf"
    return guessed if guessed and not claims_content else BINARY


def _is_text(data: bytes) -> bool:
    head = data[:_PEEK]
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(data) > _PEEK and error.start >= len(head) - 3  # a character cut in two at the end of what was read
    return True


@functools.cache
def _table() -> MimeTypes:
    import mimetypes  # most runs leave no file

    table = mimetypes.MimeTypes()  # Python's own table, not the machine's files: the same everywhere
    table.add_type("text/markdown", ".md")  # Python has it since 3.13
    return table
