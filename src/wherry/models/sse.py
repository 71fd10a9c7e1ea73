"""Server-sent events, as chat servers stream them: only the data is of interest."""

from __future__ import annotations


class EventDecoder:
    """Turns a stream's bytes, however they are cut, into the data of its events.

    Splits at CR, LF and CRLF only: a client that splits at U+2028 too, as `str.splitlines` does, cuts JSON in two.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line without an end yet; joined once: a long line costs what it is long
        self._after_cr = False
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """The data of every event that `chunk` completes; the lines of one event are joined."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._pieces.append(lines[0])
        events: list[str] = []
        for rest in lines[1:]:
            self._line(b"".join(self._pieces), events)
            self._pieces = [rest]
        return events

    def finish(self) -> list[str]:
        """What the stream's end left: an event without its blank line, perhaps cut."""
        events: list[str] = []
        self._line(b"".join(self._pieces), events)
        self._line(b"", events)
        self._pieces = []
        return events

    def _line(self, line: bytes, events: list[str]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
        elif not line and self._data:
            events.append("\n".join(self._data))
            self._data = []
