"""`web_search` without a web: full-text search over a corpus of documents, in SQLite FTS5."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from threading import Lock

from wherry.errors import ConfigurationError, ToolError
from wherry.tools.tool import Tool

Document = tuple[str, str, str]
"""Title, text, source."""
Documents = Callable[[], Iterable[Document]] | Iterable[Document]

MAX_CHARS = 1_200
"""Characters of one answer."""
_FORMAT = 1
"""Part of the index file's name: an index of another layout is never opened."""
_CANDIDATES = 40
"""Best matches by bm25 that are looked at more closely."""
_TITLE_WEIGHT, _TEXT_WEIGHT = 6.0, 1.0
_COVERED = 6.0
"""What full agreement of a title with the query is worth, in units of bm25. Tuned on questions about the Factbook."""

_IDLE_WORDS = """
a about an and any are as at be been by can could did do does for from get give had has have how i in
information into is it its know list many me much my name of on or please search tell that the their there
these they this those to use was we were what when where which who whom whose will with would you your
"""
_STOP_WORDS = frozenset(_IDLE_WORDS.split())


class CorpusSearch(Tool):
    """Answers short questions with the best passages of a corpus: title, text, source.

    The index is built at the first search, once, into a cache file that all processes share; processes that build at
    the same time do not disturb one another. Where no file can be written it lives in memory.

    Args:
        documents: (title, text, source) of each document, or a function that gives them; the function is only called
            when there is no index yet.
        name: The tool's name.
        description: The tool's description for the model.
        corpus: Names the corpus and its version: the index file is found again by it. None: by the documents' content.
        k: Passages of one answer.
        folder: Where the index is kept; None: the user's cache folder; without a home, the temporary one.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        name: str = "web_search",
        description: str = "Search for facts.",
        corpus: str | None = None,
        k: int = 3,
        folder: Path | None = None,
    ) -> None:
        if k < 1:
            raise ConfigurationError(f"k is {k}", hint="1 or more passages")
        self.name = name
        self.description = description
        self.k = k
        self._documents = documents
        self._corpus = corpus
        self._folder = folder
        self._index: sqlite3.Connection | None = None
        self._using = Lock()

    def forward(self, query: str) -> str:
        """Search.

        Args:
            query: a few words
        """
        terms = query_terms(query)
        if not terms:
            raise ToolError("the query has no words to search for")
        found, unknown = self._search(terms)
        if not found:
            return f"Nothing found for {_cut(query, 100)!r}; try other words."
        # Any word may match: without this note, the population of Atlantis is that of some other island.
        note = _cut(f"No document has the word {', '.join(unknown)}.", 150) + "\n\n" if unknown else ""
        room = (MAX_CHARS - len(note)) // len(found)
        return note + "\n\n".join(_passage(n, one, terms, room - 2) for n, one in enumerate(found, 1))

    def find(self, query: str) -> list[Document]:
        """The best documents, whole, best first."""
        terms = query_terms(query)
        return self._search(terms)[0] if terms else []

    def _search(self, terms: list[str]) -> tuple[list[Document], list[str]]:
        """The best documents, and the words that no document has."""
        # One connection, one search at a time: a search takes a millisecond or two.
        with self._using:
            for attempt in range(2):
                try:
                    if self._index is None:
                        self._index = self._open()
                    return _ranked(self._index, terms)[: self.k], _unknown(self._index, terms)
                except sqlite3.DatabaseError as error:
                    # Cut short or overwritten by something else: the file is only a cache.
                    if attempt:
                        raise ToolError(f"the index of the corpus cannot be used: {error}") from error
                    self._discard()
        raise AssertionError("the loop returns or raises")

    def _open(self) -> sqlite3.Connection:
        path = self._path()
        if path.is_file():
            return _connect(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as part:
                building = Path(part.name)
        except OSError:
            memory = sqlite3.connect(":memory:", check_same_thread=False)
            _build(memory, self._all())
            return memory
        try:
            with closing(sqlite3.connect(building)) as connection:
                _build(connection, self._all())
            os.replace(building, path)  # whoever is last wins; both files hold the same
        finally:
            building.unlink(missing_ok=True)
        return _connect(path)

    def _discard(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None
        with suppress(OSError):
            self._path().unlink(missing_ok=True)

    def _all(self) -> Iterable[Document]:
        return self._documents() if callable(self._documents) else self._documents

    def _path(self) -> Path:
        if self._corpus is None:
            content = hashlib.sha256()
            self._documents = list(self._all())  # read twice: for its digest, and for the index
            for document in self._documents:
                content.update(repr(document).encode())
            self._corpus = content.hexdigest()
        named = hashlib.sha256(self._corpus.encode()).hexdigest()[:16]
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", self._corpus)[:40]
        return (self._folder or _cache()) / f"{readable}-{named}-{_FORMAT}.sqlite"


def query_terms(query: str) -> list[str]:
    """The words of a query that are worth looking for, in order; all of them where every one is a stop word."""
    words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))[:32]
    return [word for word in words if word not in _STOP_WORDS and len(word) > 1] or words


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "wherry" / "corpora"
    except RuntimeError:  # no home folder: a container that runs under an arbitrary user id
        return Path(gettempdir()) / f"wherry-{os.getuid()}" / "corpora"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM documents WHERE documents MATCH 'title'").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _build(connection: sqlite3.Connection, documents: Iterable[Document]) -> None:
    with connection:
        connection.execute("PRAGMA journal_mode = off")  # a file that was not finished is thrown away
        connection.execute("PRAGMA synchronous = normal")
        connection.execute(
            "CREATE VIRTUAL TABLE documents USING fts5(title, text, source UNINDEXED,"
            " tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        connection.executemany("INSERT INTO documents VALUES (?, ?, ?)", documents)


def _ranked(connection: sqlite3.Connection, terms: list[str]) -> list[Document]:
    """Any word may match (OR); bm25 weighs rare words and titles more; then titles that the query covers come first."""
    # Each word as a quoted string: nothing in a query can be FTS5 syntax.
    match = " OR ".join(f'"{term}"' for term in terms)
    rows: list[tuple[str, str, str, float]] = connection.execute(
        "SELECT title, text, source, bm25(documents, ?, ?) AS score FROM documents"
        " WHERE documents MATCH ? ORDER BY score LIMIT ?",
        (_TITLE_WEIGHT, _TEXT_WEIGHT, match, _CANDIDATES),
    ).fetchall()
    stems = {_stem(term) for term in terms}
    rows.sort(key=lambda row: row[3] - _COVERED * _agreement(row[0], stems))
    return [(title, text, source) for title, text, source, _ in rows]


def _unknown(connection: sqlite3.Connection, terms: list[str]) -> list[str]:
    one = "SELECT 1 FROM documents WHERE documents MATCH ? LIMIT 1"
    return [term for term in terms if connection.execute(one, (f'"{term}"',)).fetchone() is None]


def _agreement(title: str, stems: set[str]) -> float:
    """How far title and query say the same, 0 to 1: the harmonic mean of what each covers of the other.

    What stands in parentheses in a title explains it: it may match, and takes nothing away where it does not.
    """
    bare, every = _title_stems(re.sub(r"\([^)]*\)", " ", title)), _title_stems(title)
    common = len(every & stems)
    return min(2 * common / (len(bare) + len(stems)), 1.0) if common else 0.0


def _title_stems(title: str) -> set[str]:
    return {_stem(word) for word in re.findall(r"\w+", title.lower()) if word not in _STOP_WORDS}


def _stem(word: str) -> str:
    """Enough to know `rivers` by `river` and `population` by `populated`; the index has the real stemmer."""
    return word[:6].rstrip("s")


def _passage(number: int, document: Document, terms: list[str], room: int) -> str:
    title, text, source = document
    head, tail = f"{number}. {_cut(title, 120)}: ", f" [{_cut(source, 60)}]" if source else ""
    return f"{head}{_window(' '.join(text.split()), terms, max(room - len(head) - len(tail), 40))}{tail}"


def _window(text: str, terms: list[str], size: int) -> str:
    """The part of a text that speaks most of the query; its beginning, where that is as good."""
    if len(text) <= size:
        return text
    stems = {_stem(term) for term in terms}
    starts = [0, *(found.end() for found in re.finditer(r"[.;:]\s", text) if found.end() < len(text) - size // 3)]

    def said(start: int, length: int) -> int:
        return len(stems & {_stem(word) for word in re.findall(r"\w+", text[start : start + length].lower())})

    best = max(starts, key=lambda start: (said(start, size - 20), start == 0, said(start, size // 3)))
    return ("…" if best else "") + _cut(text[best:], size - (1 if best else 0))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
