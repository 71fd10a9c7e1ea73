"""`search_artifact`: the places in a content that was too large for the context where something stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.errors import StoreError
from wherry.store.protocol import Artifacts
from wherry.store.records import ArtifactRef
from wherry.tools.builtin.excerpts import Excerpt
from wherry.tools.builtin.patterns import Found, Progress, Query, compiled, literal, matches
from wherry.tools.builtin.read_artifact import gone, known
from wherry.tools.context import current_context
from wherry.tools.tool import Tool

SHOWN = 20
"""Lines that one search shows at most."""
MOST_COUNTED = 10_000
MAX_CHARS = 6_000
_AROUND = 120
"""Bytes that are shown before and behind a match in a long line."""


@dataclass(frozen=True, slots=True)
class _Line:
    at: int
    """Byte of the match."""
    text: str


@dataclass(slots=True)
class _Result:
    lines: list[_Line]
    count: int
    progress: Progress
    more: int | None
    """Where to search on for what is not shown."""


class SearchArtifact(Tool):
    """Searches what the store of the run keeps, with a regular expression."""

    name = "search_artifact"
    gives_back = True
    description = "Find where something stands in a stored content."

    def forward(self, ref: str, query: str, offset: int = 0) -> str:
        """Search a stored content.

        Args:
            ref: the reference in the preview
            query: words or a regular expression; upper and lower case are the same
            offset: byte to start at
        """
        artifacts = current_context().store.artifacts
        info = known(artifacts, ref)
        start = max(info.bytes + offset, 0) if offset < 0 else offset
        try:
            wanted = compiled(query)
            result = _search(artifacts, info, wanted, start)
            if not result.count and not wanted.literal and _has_syntax(query):
                # `price (USD)` as it stands is an expression too, but not one for these very letters.
                again = literal(query)
                second = _search(artifacts, info, again, start)
                if second.count:
                    wanted, result = again, second
        except StoreError as error:
            raise gone(info.ref, error) from error
        return _told(info, query, wanted, start, result)


search_artifact = SearchArtifact()


def _has_syntax(query: str) -> bool:
    return any(mark in query for mark in "\\.^$*+?{}[]|()")


def _search(artifacts: Artifacts, info: ArtifactRef, wanted: Query, start: int) -> _Result:
    progress = Progress(start)
    result = _Result([], 0, progress, None)
    shown_to = -1  # the byte up to which the last line shows what is there

    def read(offset: int, limit: int) -> bytes:
        return artifacts.read(info.ref, offset, limit)

    for found in matches(wanted, read, start=start, size=info.bytes, progress=progress):
        result.count += 1
        if found.start >= shown_to:
            if len(result.lines) < SHOWN:
                line, shown_to = _line(read, found)
                result.lines.append(line)
            elif result.more is None:
                result.more = found.start
        if result.count >= MOST_COUNTED:
            break
    return result


def _line(read: Callable[[int, int], bytes], found: Found) -> tuple[_Line, int]:
    """The line around a match, or as much of it as is of use; and the byte up to which it goes."""
    begin = max(found.start - _AROUND, 0)
    length = min(found.end - found.start, 2 * _AROUND)
    data = read(begin, found.start - begin + length + _AROUND)
    first = data.rfind(b"\n", 0, found.start - begin) + 1
    stop = data.find(b"\n", found.start - begin + length)
    before = "…" if first == 0 and begin > 0 else ""
    behind = "…" if stop < 0 and len(data) == found.start - begin + length + _AROUND else ""
    stop = len(data) if stop < 0 else stop
    # What is cut may be cut within a character.
    text = data[first:stop].decode("utf-8", "replace").strip("\ufffd").replace("\0", "\ufffd")
    return _Line(found.start, f"{before}{' '.join(text.split())}{behind}"), begin + stop


def _told(info: ArtifactRef, query: str, wanted: Query, start: int, result: _Result) -> Excerpt:
    short = query if len(query) <= 60 else f"{query[:59]}…"
    many = " or more" if result.count >= MOST_COUNTED else ""
    notes = [f"{info.ref}: {result.count:,}{many} matches of {short!r} in bytes {start} to {_end(info, result)}"]
    if wanted.literal and wanted.why:
        notes.append(f"searched letter by letter, for it is no expression: {wanted.why}")
    elif wanted.literal:
        notes.append("searched letter by letter: as an expression it matches nothing")
    if result.progress.out_of_time:
        notes.append(f"the time was up; offset {result.progress.at} goes on")
    if not result.count:
        notes.append("try other or fewer words")

    def render(size: int) -> str:
        room = size - sum(map(len, notes)) - 40
        shown: list[str] = []
        more = result.more
        for line in result.lines:
            text = f"at byte {line.at}: {line.text}"
            room -= len(text) + 1
            if room < 0 and shown:
                more = line.at
                break
            shown.append(text if room >= 0 else text[: max(len(text) + room, 40)])
        said = [*notes, f"more from offset {more}"] if more is not None else notes
        return "\n".join([f"[{'; '.join(said)}]", *shown])

    return Excerpt.of(render, MAX_CHARS)


def _end(info: ArtifactRef, result: _Result) -> int:
    return min(result.progress.at, info.bytes) if result.progress.out_of_time else info.bytes
