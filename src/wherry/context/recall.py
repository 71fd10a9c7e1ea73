"""`recall`: what was folded away, found again by its words."""

from __future__ import annotations

import re

from wherry.context.history import History, Memory, whole
from wherry.errors import StoreError, ToolError
from wherry.tools import Tool, current_context
from wherry.tools.builtin.excerpts import Excerpt

SHOWN = 5
MAX_CHARS = 4_000
_WORD = re.compile(r"\w+")
_PREVIEW = re.compile(r'<wherry:offloaded ref="(a-[0-9a-f]+)"[^>\n]*>\n?')


class Recall(Tool):
    """Searches the history of the run that calls it, and of its session's earlier runs."""

    name = "recall"
    gives_back = True
    description = "Find what was said or found earlier and is not shown any more."

    def forward(self, query: str, offset: int = 0) -> str:
        """Find something of earlier.

        Args:
            query: words; or the reference of one message, as m-41.2, to read it whole
            offset: of a whole message, the character to start at
        """
        context = current_context()
        history = History(context.store, context.run_id, context.session)
        if history.is_reference(query.strip()):
            try:
                return _one(history, query.strip(), max(offset, 0))
            except ToolError:
                # Part numbers look like that too.
                found = [one for one in _found(history, query) if query.strip().casefold() in one.text.casefold()]
                if not found:
                    raise
                return _told(query, found, complete=history.complete)
        if not _WORD.search(query):
            raise ToolError("the query has no words to search for")
        found = _found(history, query)
        return _told(query, found, complete=history.complete)


def _found(history: History, query: str) -> list[Memory]:
    try:
        return history.find(query, limit=SHOWN)
    except StoreError as error:
        raise ToolError(f"the history cannot be searched: {error.message}") from error


recall = Recall()


def _one(history: History, ref: str, offset: int) -> Excerpt:
    try:
        message = history.message(ref)
    except LookupError as error:
        raise ToolError(f"{error.args[0]}: copy the reference from what recall found") from error
    except StoreError as error:
        raise ToolError(f"the message cannot be read: {error.message}") from error
    text = whole(message)

    def render(size: int) -> str:
        part = text[offset : offset + max(size, 16)]
        end = offset + len(part)
        rest = f"next offset {end}" if end < len(text) else "the end"
        who = message.role if message.name is None else f"{message.role} {message.name}"
        return f"[recall: {ref}, {who}, characters {offset} to {end} of {len(text)}; {rest}]\n{part}"

    return Excerpt.of(render, MAX_CHARS)


def _told(query: str, found: list[Memory], *, complete: bool) -> Excerpt:
    short = query if len(query) <= 60 else f"{query[:59]}…"
    words = {word.casefold() for word in _WORD.findall(query) if len(word) > 1}

    def render(size: int) -> str:
        more = "" if complete else "; the index is not complete yet: ask again"
        if not found:
            return f"[recall: nothing found for {short!r}{more or '; try other words'}]"
        lines = [f"[recall: {len(found)} found for {short!r}{more}, best first]"]
        room = max((size - len(lines[0])) // len(found) - 60, 40)
        for memory in found:
            place = memory.place
            how = place.ref if place.ref.startswith("m-") else f"{place.ref} at byte {place.offset}"
            text = memory.text
            if preview := _PREVIEW.match(text):
                how, text = f"{how}, a preview of {preview[1]}", text[preview.end() :]
            said = text if len(text) <= room else _around(text, words, room)
            lines.append(f"step {place.step}, {place.who} ({how}): {' '.join(said.split())}")
        return "\n".join(lines)

    return Excerpt.of(render, MAX_CHARS)


def _around(text: str, words: set[str], room: int) -> str:
    """The part of a text in which most of the words stand."""
    places = [
        (match.start(), match[0].casefold())
        for match in _WORD.finditer(text)
        if any(match[0].casefold().startswith(word) for word in words)
    ][:2_000]
    best, most = 0, 0
    last = 0
    for first, (start, _) in enumerate(places):
        last = max(last, first)
        while last < len(places) and places[last][0] < start + room * 3 // 4:
            last += 1
        many = len({word for _, word in places[first:last]}) if last - first <= 50 else len(words)
        if many > most:
            best, most = start, many
    begin = max(best - room // 8, 0)
    part = text[begin : begin + room]
    return f"{'…' if begin else ''}{part}{'…' if begin + room < len(text) else ''}"
