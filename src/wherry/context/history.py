"""What a run has seen, and the earlier runs of its session: found again by its words.

The index is made of the journal when somebody asks, never in a step: events are read from where the last question
stopped. A message is indexed once, where it first appears; what was set aside as an artifact is indexed too, in pieces.

In the index, a message is named by where it stands in the journal: `RUN/SEQ.I` is the I-th digest of record SEQ.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from wherry.errors import StoreError, WherryError
from wherry.journal import EventType
from wherry.messages import Message, digest, parse
from wherry.store.protocol import Store
from wherry.store.records import EventRow, Hit, RunRow
from wherry.tools.builtin.read_artifact import read_back

MOST_OF_AN_ARTIFACT = 16 << 20
"""Bytes of one artifact that are indexed; in larger windows `search_artifact` finds what is behind them."""
SECONDS = 20.0
"""What one question may spend on indexing; the next one goes on. A run of 3,000 steps takes a second."""
_PIECE = 2_000
"""Bytes of an artifact that make one item of the index."""
_BATCH = 256

_READERS = frozenset({"read_artifact", "search_artifact", "recall"})
"""Tools whose results say again what stands elsewhere: indexed, they would be found in place of it."""
_AGAIN = re.compile(r"\[(?:a-[0-9a-f]{12,64}|recall): ")
"""How these results begin; a user's own tool of such a name gives something else."""
_PRINTED = re.compile(r"(?:Output:\n|Value: )")
"""What a code agent's observation puts before what its snippet printed."""
_TOLD = re.compile(
    r"\[recall: \d+ found for [^\n]*, best first\](?:\nstep \d+, [^\n]*?\((?:m-\d|a-[0-9a-f]{12})[^\n]*\): [^\n]*)+"
)
"""What `recall` told a snippet, line by line."""
_SUMMARY = re.compile(r"<wherry:summary>.*?</wherry:summary>\s*", re.DOTALL)
_WITH_MESSAGES = (EventType.MODEL_REQUESTED, EventType.MODEL_REPLIED, EventType.CONTEXT_COMPACTED)
_REF = re.compile(r"m-(\d{1,9})\.(\d{1,6})(?:@([0-9a-z]{18}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text of the history stands."""

    run_id: str
    step: int
    who: str
    """The role, and the tool or speaker."""
    ref: str
    """`m-SEQ.I` for a message, `m-SEQ.I@RUN` for one of an earlier run; an artifact's own reference."""
    offset: int = 0
    """Of a piece of an artifact: its first byte."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What was found."""

    place: Place
    text: str


class History:
    """The history of one run, and of its session if it has one.

    Args:
        store: Has the journal and the index.
        run_id: The run that asks.
        session: Its session.
    """

    def __init__(self, store: Store, run_id: str, session: str | None = None) -> None:
        self._store = store
        self._run_id = run_id
        self._session = session
        self._space = f"recall/run/{run_id}" if session is None else f"recall/session/{session}"
        self.complete = True
        """Whether the last question was answered from all there is: it may have had too little time to index it."""

    def find(self, query: str, *, limit: int = 5) -> list[Memory]:
        """The texts that speak most of the query's words, best first, each message once.

        Raises:
            StoreError: The store cannot be read or written.
        """
        self.complete = self.catch_up()
        found: dict[str, Memory] = {}
        for hit in self._store.search.find(self._space, query, limit=limit * 4):
            memory = _memory(hit, self._run_id)
            found.setdefault(memory.place.ref, memory)
        return list(found.values())[:limit]

    @staticmethod
    def is_reference(text: str) -> bool:
        """Whether a text has the form of a message's reference."""
        return _REF.fullmatch(text) is not None

    def message(self, ref: str) -> Message:
        """The message of a reference that `find` gave.

        Raises:
            LookupError: There is none, or it belongs to another conversation. The message says which.
        """
        match = _REF.fullmatch(ref.strip())
        if match is None:
            raise LookupError(f"{ref[:80]!r} is no reference such as m-41.2")
        run_id = match[3] or self._run_id
        if run_id != self._run_id and not self._ours(run_id):
            raise LookupError(f"{ref!r} belongs to another conversation")
        row = next(self._store.events(run_id, after=int(match[1]) - 1), None)
        digests = [] if row is None or row.seq != int(match[1]) or row.pruned is not None else _digests(row)
        if int(match[2]) >= len(digests):
            raise LookupError(f"there is no message {ref!r}")
        return Message.decode(self._store.message(digests[int(match[2])]))

    def catch_up(self) -> bool:
        """Index what has come since the last time; whether that is all there is."""
        deadline = time.monotonic() + SECONDS
        for run in self._earlier():
            if not self._index(run.run_id, deadline):
                return False
            self._store.search.add(self._space, [], cursor=_stamp(run))
        return self._index(self._run_id, deadline)

    def _ours(self, run_id: str) -> bool:
        if self._session is None:
            return False
        try:
            return self._store.run(run_id).session == self._session
        except WherryError:
            return False

    def _earlier(self) -> list[RunRow]:
        """The session's runs before this one that are not in the index yet, oldest first."""
        if self._session is None:
            return []
        done, limit = self._store.search.cursor(self._space), 32
        while True:
            runs = self._store.runs(limit=limit, session=self._session)
            if len(runs) < limit or _stamp(runs[-1]) <= done:
                break
            limit *= 4
        ids = [run.run_id for run in runs]
        before = runs[ids.index(self._run_id) + 1 :] if self._run_id in ids else runs
        return [run for run in reversed(before) if _stamp(run) > done]

    def _index(self, run_id: str, deadline: float) -> bool:
        at = self._space if self._session is None else f"recall/at/{run_id}"
        cursor = self._store.search.cursor(at)
        fresh = cursor == 0 and self._session is None
        reader = _Reader(self._store, run_id, space=self._space, cursor=cursor, fresh=fresh)
        items: list[tuple[str, str]] = []
        done = cursor
        for item in reader.items():
            items.append(item)
            if len(items) >= _BATCH:
                self._store.search.add(self._space, items)
                items.clear()
                if reader.cursor > done:  # the next question goes on here, however this one ends
                    done = reader.cursor
                    self._store.search.add(at, [], cursor=done)
                # Not before something is done for good: else a question that is always too late would never get on.
                if time.monotonic() > deadline and done > cursor:
                    return False
        self._store.search.add(self._space, items)
        self._store.search.add(at, [], cursor=reader.cursor)
        return True


class _Reader:
    """Reads a run's records from `cursor` on and gives what is not in the index yet."""

    def __init__(self, store: Store, run_id: str, *, space: str, cursor: int, fresh: bool) -> None:
        self._store = store
        self._run_id = run_id
        self._space = space
        self._fresh = fresh
        """Whether nothing of this conversation was indexed before."""
        self.cursor = cursor
        """The last request. What comes after it is read again next time; it has the same keys then."""
        self._step = 0
        self._seen: set[str] = set()

    def items(self) -> Iterator[tuple[str, str]]:
        for row in self._store.events(self._run_id, after=max(self.cursor - 1, 0)):
            if row.pruned is not None:
                continue
            if row.type in _WITH_MESSAGES:
                payload = parse(row.body)
                if row.type != EventType.CONTEXT_COMPACTED:
                    step = payload.get("step", 0)
                    self._step = step if row.type == EventType.MODEL_REPLIED else max(step - 1, 0)
                yield from self._messages(row)
                if row.type == EventType.MODEL_REQUESTED:
                    self.cursor, self._step = row.seq, payload.get("step", 0)
            elif row.type == EventType.CONTEXT_OFFLOADED:
                ref = parse(row.body).get("ref")
                if isinstance(ref, str):
                    yield from self._pieces(ref)

    def _messages(self, row: EventRow) -> Iterator[tuple[str, str]]:
        for number, name in enumerate(_digests(row)):
            if self._known(_word(name)):
                continue
            try:
                message = Message.decode(self._store.message(name))
            except StoreError:
                continue  # damaged or removed: the others are still to be found
            bare = _without_summary(message)
            word = _word(name if bare is message else digest(bare.encode()))
            text = self._new(bare)
            if not text.strip() or bare.role == "system":
                continue
            if bare is not message and self._known(word):
                continue  # the task, of which the summary has become a part
            yield f"m/{self._run_id}/{row.seq}.{number}/{self._step}/{_who(bare)}", f"{text}\n{word}"

    def _new(self, message: Message) -> str:
        """The message as text, without what it says again.

        Only what the tools that read did say: any text may look like it, and is to be found then.
        """
        text = whole(message)
        if message.role == "tool":
            return "" if message.name in _READERS and _AGAIN.match(text) else text
        before = _PRINTED.match(text) if message.role == "user" else None
        if before is None:
            return text
        if read_back(self._store.artifacts, text[before.end() :]) is not None:
            return ""
        told = _TOLD.match(text, before.end())
        return text if told is None else text[told.end() :]

    def _known(self, word: str) -> bool:
        """Whether a message is in the index already, or was given before."""
        if word in self._seen:
            return True
        self._seen.add(word)
        # Of an earlier question, or of an earlier run.
        return not self._fresh and bool(self._store.search.find(self._space, word, limit=1))

    def _pieces(self, ref: str) -> Iterator[tuple[str, str]]:
        artifacts = self._store.artifacts
        try:
            info = artifacts.info(ref)
            if info.media_type.startswith(("image/", "application/octet-stream")):
                return
            size = min(info.bytes, MOST_OF_AN_ARTIFACT)
            for offset in range(0, size, _PIECE * 64):
                data = artifacts.read(ref, offset, min(_PIECE * 64, size - offset))
                for start, text in _cut(data):
                    yield f"a/{self._run_id}/{ref}/{offset + start}/{self._step}", text
        except StoreError:
            return


def _cut(data: bytes) -> Iterator[tuple[int, str]]:
    """Pieces of about `_PIECE` bytes that end between words where they can, with where they start."""
    start = 0
    while start < len(data):
        end = min(start + _PIECE, len(data))
        if end < len(data):
            blank = max(data.rfind(b" ", start + _PIECE // 2, end), data.rfind(b"\n", start + _PIECE // 2, end))
            end = blank + 1 if blank > 0 else end
        # A word that is cut in two all the same, where there is no blank at all, is in both pieces.
        yield (
            start,
            data[max(start - (0 if data[start - 1 : start] in (b" ", b"\n", b"") else 64), 0) : end].decode(
                "utf-8", "replace"
            ),
        )
        start = end


def _digests(row: EventRow) -> list[str]:
    """The messages that a record names."""
    payload = parse(row.body)
    if row.type == EventType.MODEL_REPLIED:
        return [payload["message"]] if isinstance(payload.get("message"), str) else []
    found: object = payload.get("add" if row.type == EventType.MODEL_REQUESTED else "folded")
    return cast("list[str]", found) if isinstance(found, list) else []


def _word(digest: str) -> str:
    """A message's digest as a word of its own in the index: by it is known what is there already."""
    return f"d{digest[:24]}"


def whole(message: Message) -> str:
    """All of a message as text."""
    calls = [
        f"calls {call.name} {json.dumps(dict(call.arguments), ensure_ascii=False, default=str)}"
        for call in message.tool_calls
    ]
    return "\n".join(part for part in (message.content, *calls) if part)


def _without_summary(message: Message) -> Message:
    """The message without the summary, which is no text of the conversation. Nothing else can have its tag."""
    if "<wherry:summary>" not in message.content:
        return message
    return Message(message.role, _SUMMARY.sub("", message.content).rstrip(), name=message.name, images=message.images)


def _who(message: Message) -> str:
    return message.role if message.name is None else f"{message.role} {message.name}"


def _memory(hit: Hit, run_id: str) -> Memory:
    parts = hit.key.split("/", 4)
    if parts[0] == "a":
        _, of, ref, offset, step = parts
        return Memory(Place(of, int(step), "stored content", ref, int(offset)), hit.text)
    _, of, ref, step, who = parts
    text = hit.text.rpartition("\n")[0]
    return Memory(Place(of, int(step), who, f"m-{ref}" if of == run_id else f"m-{ref}@{of}"), text)


def _stamp(run: RunRow) -> int:
    return int(run.started * 1_000_000)
