"""Streams that are passed on: unread, but for the one event that only the proxy wanted, and a copy for the books."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from wherry.models.sse import EventDecoder

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_MOST_KEPT = 16_000_000
"""Bytes of a stream that are read for the books."""
_LAST = 16
"""Pieces at the end of a stream that may say that it is over."""
_LONGEST_EVENT = 65_536
"""Bytes of an event after which it is passed on before it is whole: it has more than usage in it."""
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


class UsageFilter:
    """Takes the event that has nothing but usage out of a stream of chat completions.

    For a client that did not ask for it: many read `choices[0]` of every event.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """What of the stream can go on now. An event goes on when it is whole."""
        data = self._rest + chunk if self._rest else chunk
        end = 0
        for found in _END.finditer(data):
            end = found.end()
        if len(data) - end > _LONGEST_EVENT:
            end = len(data)
        self._rest = data[end:]
        whole = data[:end]
        if b'"usage"' not in whole or _NO_CHOICES.search(whole) is None:
            return whole
        kept: list[bytes] = []
        start = 0
        for found in _END.finditer(whole):
            event = whole[start : found.end()]
            start = found.end()
            if b'"usage"' not in event or _NO_CHOICES.search(event) is None:
                kept.append(event)
        return b"".join(kept)

    def finish(self) -> bytes:
        """What the end of the stream left."""
        rest, self._rest = self._rest, b""
        return rest


class Copy:
    """What went through, for the books."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        if self.size < _MOST_KEPT:
            self._chunks.append(chunk)
        self.size += len(chunk)

    def events(self) -> list[str]:
        """The data of the stream's events."""
        decoder = EventDecoder()
        return [event for chunk in self._chunks for event in decoder.feed(chunk)] + decoder.finish()

    @property
    def ended(self) -> bool:
        """Whether the stream said that it is over."""
        if self.size >= _MOST_KEPT:
            return True  # its end was not kept
        tail = b"".join(self._chunks[-_LAST:])
        return any(
            mark in tail
            for mark in (
                b"[DONE]",
                b'"error"',
                b'"message_stop"',
                b"response.completed",
                b"response.incomplete",
                b"response.failed",
            )
        ) or (b'"finish_reason":"' in tail.replace(b" ", b""))


async def first_events(response: ClientResponse, seconds: float, most: int, *, all_of_it: bool = False) -> bytes:
    """The first bytes of an answer, or all up to `most` (-1: whatever comes).

    Raises:
        TimeoutError: They did not come in time.
    """
    async with asyncio.timeout(seconds):
        if not all_of_it:
            return await response.content.readany()
        if most < 0:
            return await response.read()
        read = bytearray()
        while len(read) < most and (chunk := await response.content.readany()):
            read += chunk
        return bytes(read[:most])
