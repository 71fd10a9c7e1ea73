"""Knowledge: documents that are too large for a system prompt. What matters for a task is in it, the rest can be found.

Policies, manuals, handbooks: pasted whole into the instructions they leave no room for the work, and a small model
does not find its way through them. Cut into sections and indexed, a few sections are enough.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import cast
from weakref import WeakKeyDictionary

from wherry.context.counting import TokenCounter
from wherry.context.escape import escape
from wherry.context.knowledge_index import Embed, Vectors, by_words, fused, space_of, synchronize
from wherry.context.knowledge_sections import Section, sections
from wherry.context.knowledge_sources import Source, Unreadable, check, sources
from wherry.context.previews import head_and_tail
from wherry.errors import ConfigurationError, StoreError, ToolError
from wherry.store.protocol import Store
from wherry.tools import Tool, current_context
from wherry.tools.builtin.excerpts import Excerpt

SHARE = 0.25
"""Of the input budget (the window without what is reserved for the reply) that goes to the system prompt by default."""
MOST = 8_000
"""Tokens that go there at most by default: in a large window a quarter would be paid for with every request."""
_CONTENTS = 0.25
"""Of the share, for the list of what there is."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks at whether the documents of a run under way have changed."""
_FOUND = 6
_MAX_CHARS = 5_000


@dataclass(frozen=True, slots=True)
class _Document:
    signature: tuple[object, ...]
    digest: str
    sections: tuple[Section, ...]


class Knowledge:
    """Documents as instructions: `CodeAgent(instructions=Knowledge("policies/"))`.

    At the beginning of a run the sections that speak of the task go into the system prompt, as many as fit a share of
    the input budget, with a list of what else there is; all of them, if they fit. The system prompt then stays as it
    is for the whole run. The tool `search_knowledge(query)` finds the rest; it sees files that have changed meanwhile.

    Hidden files, links that lead out of their folder, files that are no text, cannot be read or are larger than 16 MB
    are left out; `skipped` says which and why, and every run warns of them.

    Args:
        paths: Files, and folders with all that is below them: Markdown, HTML, reStructuredText, any plain text.
        texts: Further documents, by name.
        pinned: A text that is always in the system prompt, whole, before the rest.
        share: Of the input budget that sections and list may take; None: a quarter, but at most 8,000 tokens.
        embed: Makes vectors of texts: sections are found by meaning too. Called in a thread; what it gives is kept in
            memory as long as this object. Where it fails, sections are found by their words alone.

    Raises:
        ConfigurationError: A path leads nowhere, nothing was given, or `share` is no share.
    """

    def __init__(
        self,
        *paths: str | PathLike[str],
        texts: Mapping[str, str] | None = None,
        pinned: str = "",
        share: float | None = None,
        embed: Embed | None = None,
    ) -> None:
        if not paths and not texts:
            raise ConfigurationError("the knowledge is empty", hint='Knowledge("policies/") or texts={name: text}')
        for name, text in (texts or {}).items():
            if not isinstance(cast("object", text), str):
                raise ConfigurationError(f"the text {name!r} of the knowledge is {type(text).__name__}", hint="a str")
        if share is not None and (not isinstance(cast("object", share), int | float) or not 0 < share <= 0.9):
            raise ConfigurationError(f"share is {share!r}", hint="a number above 0, at most 0.9: a quarter is 0.25")
        self._paths = [Path(path) for path in paths]
        check(self._paths)
        self._texts = dict(texts or {})
        self.pinned = pinned
        self.share = share
        self.skipped: dict[str, str] = {}
        """Documents that were left out at the last look, and why."""
        self.search = SearchKnowledge(self)
        """The tool `search_knowledge`."""
        self._vectors = None if embed is None else Vectors(embed)
        self._documents: dict[str, _Document] = {}
        self._sections: dict[str, Section] = {}
        self._looked = 0.0
        self._indexed: WeakKeyDictionary[Store, dict[str, str]] = WeakKeyDictionary()
        self._space = space_of([*(str(path.absolute()) for path in self._paths), *self._texts])
        self._lock = threading.Lock()
        self.problem = ""
        """Why sections were found by their words alone at the last search, although `embed` was given."""

    @property
    def sections(self) -> Sequence[Section]:
        """All sections, as of the last look at the documents."""
        return list(self._sections.values())

    def brief(
        self, task: str, *, store: Store, counter: TokenCounter, room: int, control_tokens: tuple[str, ...]
    ) -> str:
        """What the system prompt says of the knowledge, for a task.

        Args:
            store: Has the index.
            counter: Of the model.
            room: Tokens of the input budget.
            control_tokens: The model's; they are escaped in documents.

        Raises:
            ConfigurationError: There is no document.
            StoreError: The index cannot be written.
        """
        self.refresh(store)
        if not self._sections:
            left_out = "".join(f"; {name} {why}" for name, why in list(self.skipped.items())[:5])
            raise ConfigurationError(
                f"the knowledge {', '.join(map(str, self._paths)) or 'texts'} holds no document{left_out}",
                hint="it needs at least one readable text file with something in it",
            )
        tokens = min(room * SHARE, MOST) if self.share is None else room * self.share
        budget = int(tokens / counter.ratio)

        def shown(section: Section) -> str:
            return f"## {section.heading}\n{section.text}".rstrip()

        def told(head: str, chosen: Sequence[Section]) -> str:
            return escape("\n\n".join([head, *map(shown, chosen)]), control_tokens)

        everything = list(self._sections.values())
        if sum(len(section.text) for section in everything) <= budget * 16:
            whole = told("Knowledge:", everything)
            if counter.text(whole) <= budget:
                return _with(self.pinned, whole)
        head = self._head(counter, int(budget * _CONTENTS))
        left = budget - counter.text(escape(head, control_tokens)) - 8
        chosen: set[str] = set()
        for key in self.ranked(task, store):
            cost = counter.text(escape(shown(self._sections[key]), control_tokens)) + 2
            if cost <= left:
                chosen.add(key)
                left -= cost
        return _with(self.pinned, told(head, [one for key, one in self._sections.items() if key in chosen]))

    def ranked(self, query: str, store: Store) -> list[str]:
        """Keys of the sections that matter for a query, best first.

        Raises:
            StoreError: The index cannot be read.
        """
        rankings = [by_words(store, self._space, query)]
        if self._vectors is not None:
            try:
                with self._lock:
                    rankings.append(self._vectors.rank(query, list(self._sections.values())))
                self.problem = ""
            except Exception as error:  # noqa: BLE001  a user's function: anything may come out of it
                self.problem = f"{type(error).__name__}: {error}"[:300]
        return [key for key in fused(rankings) if key in self._sections]

    def refresh(self, store: Store, *, at_most_every: float = 0.0) -> None:
        """Look at the documents and index what has changed.

        Raises:
            ConfigurationError: A path leads nowhere any more.
            StoreError: The index cannot be written.
        """
        with self._lock:
            now = time.monotonic()
            known = self._indexed.get(store)
            if known is not None and now - self._looked < at_most_every:
                return
            self._read()
            self._looked = now
            digests = {name: document.digest for name, document in self._documents.items()}
            if known != digests:
                synchronize(
                    store,
                    self._space,
                    {name: (document.digest, document.sections) for name, document in self._documents.items()},
                )
                self._indexed[store] = digests

    def _read(self) -> None:
        skipped: dict[str, str] = {}
        found: dict[str, _Document] = {}
        for source in sources(self._paths, self._texts, skip=skipped.__setitem__):
            name = _unused(source.name, found)
            before = self._documents.get(name)
            if before is not None and before.signature == source.signature:
                found[name] = before
                continue
            try:
                found[name] = _parsed(name, source)
            except Unreadable as why:
                if Path(str(source.signature[0])) in self._paths:
                    raise ConfigurationError(f"the knowledge {name!r} {why}", hint="text files are read") from None
                skipped[name] = str(why)
        self.skipped = skipped
        if found != self._documents:
            self._documents = found
            self._sections = {one.key: one for document in found.values() for one in document.sections}

    def _head(self, counter: TokenCounter, room: int) -> str:
        """How much there is, and a list of it that takes at most `room` tokens."""
        head = (
            f"Knowledge: {len(self._sections):,} sections of {len(self._documents):,} documents. Those that speak of "
            "the task follow; search_knowledge(query) finds the others."
        )
        names = list(self._documents)
        for listed in (
            [f"- {name}: {_outline(document)}" for name, document in self._documents.items()],
            [f"- {name}" for name in names],
        ):
            text = "\n".join([head, "Documents:", *listed])
            if len(text) <= room * 16 and counter.text(text) <= room:
                return text
        return head


class SearchKnowledge(Tool):
    """Finds sections of one `Knowledge`."""

    name = "search_knowledge"
    description = "Find passages in the documents."

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def forward(self, query: str) -> str:
        """Search.

        Args:
            query: a few words
        """
        if not any(mark.isalnum() for mark in query):
            raise ToolError("the query has no words to search for")
        store = current_context().store
        knowledge = self._knowledge
        try:
            knowledge.refresh(store, at_most_every=_LOOK_AGAIN)
            ranked = knowledge.ranked(query, store)
        except (ConfigurationError, StoreError) as error:
            raise ToolError(f"the documents cannot be searched: {error.message}") from error
        all_sections = {section.key: section for section in knowledge.sections}
        found = [all_sections[key] for key in ranked[:_FOUND] if key in all_sections]
        return _told(query, found, len(ranked))


def _told(query: str, found: Sequence[Section], count: int) -> Excerpt:
    short = query if len(query) <= 60 else f"{query[:59]}…"

    def render(size: int) -> str:
        if not found:
            return f"[knowledge: nothing found for {short!r}; try other words]"
        room = size - 60
        shown: list[str] = []
        for section in found:
            text = f"## {section.heading}\n{section.text}".rstrip()
            if shown and len(text) > room:
                break
            shown.append(text if len(text) <= room else head_and_tail(text, max(room, 40)))
            room -= len(text) + 2
        return "\n\n".join([f"[knowledge: the best {len(shown)} of {count} passages for {short!r}]", *shown])

    return Excerpt.of(render, _MAX_CHARS)


def _parsed(name: str, source: Source) -> _Document:
    text = source.read()
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return _Document(source.signature, digest, tuple(sections(name, text)))


def _unused(name: str, taken: Mapping[str, object]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"


def _outline(document: _Document) -> str:
    """The upper headings of a document."""
    tops = dict.fromkeys(" > ".join(section.title.split(" > ")[:2]) for section in document.sections if section.title)
    listed = "; ".join(list(tops)[:20])
    return f"{listed}; …" if len(tops) > 20 else listed


def _with(pinned: str, text: str) -> str:
    return f"{pinned.strip()}\n\n{text}".strip()
