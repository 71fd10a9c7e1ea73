"""Full text in PostgreSQL: the words that `terms` makes, as tsvectors under a GIN index, ranked in the manner of BM25.

PostgreSQL's own rank does not know which words are rare; so each word of a query is looked for by itself, and what it
is worth depends on how many items have it. A space is a word of its own in every vector, one that no text can have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from wherry.failpoints import failpoint
from wherry.store.database import Connection, Database, blob, text
from wherry.store.records import Hit
from wherry.store.search import begins, prepared
from wherry.store.terms import Term, terms

PART = 8000
"""Words in one vector; it takes 16,383 positions and 1 MB."""
OVERLAP = 8
"""Words that two parts share, so that a phrase across them is found."""
WORD_CHARS = 200
"""Of a longer word the rest is not indexed."""

_WORDS = re.compile("[0-9a-z\x80-\U0010ffff]+")  # what `terms.indexed` leaves of words
_FIND = """
WITH wanted AS (SELECT number, query::tsquery AS query FROM unnest(?::text[]) WITH ORDINALITY AS w (query, number)),
found AS (
    SELECT wanted.number, w.item, max(ts_rank(w.words, wanted.query, 1)) AS rank
    FROM wanted JOIN search_words AS w ON w.words @@ (?::tsquery && wanted.query) GROUP BY wanted.number, w.item
),
worth AS (
    SELECT number, ln(1 + (?::float8 - count(*) + 0.5) / (count(*) + 0.5)) AS worth FROM found GROUP BY number
)
SELECT i.key, i.text, s.score FROM (
    SELECT item, sum(rank * worth) AS score FROM found JOIN worth USING (number)
    GROUP BY item ORDER BY score DESC, item LIMIT ?
) AS s JOIN search_items AS i ON i.id = s.item ORDER BY s.score DESC, i.id
"""
_NUMBER = "SELECT id FROM search_spaces WHERE space = ?"


class TSIndex:
    """A text index on PostgreSQL's tsvector."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, space: str, items: Iterable[tuple[str, str]], *, cursor: int | None = None) -> None:
        rows = prepared(items)

        def write(connection: Connection) -> None:
            self._database.lock(connection, f"search:{space}")
            query = "INSERT INTO search_spaces (space, position) VALUES (?, 0) ON CONFLICT (space) DO NOTHING"
            connection.execute(query, (blob(space),))
            number = connection.execute(_NUMBER, (blob(space),)).fetchone()[0]
            for key, value, words in rows:
                connection.execute("DELETE FROM search_items WHERE space = ? AND key = ?", (number, key))
                item = connection.execute(
                    "INSERT INTO search_items (space, key, text) VALUES (?, ?, ?) RETURNING id", (number, key, value)
                ).fetchone()[0]
                connection.executemany(
                    "INSERT INTO search_words (item, words) VALUES (?, ?::tsvector)",
                    [(item, vector) for vector in _vectors(number, words)],
                )
                failpoint("search.item")
            if cursor is not None:
                connection.execute("UPDATE search_spaces SET position = ? WHERE id = ?", (cursor, number))
            failpoint("search.added")

        self._database.write(write, repeatable=True)

    def cursor(self, space: str) -> int:
        rows = self._database.read("SELECT position FROM search_spaces WHERE space = ?", (blob(space),))
        return rows[0][0] if rows else 0

    def find(self, space: str, query: str, *, limit: int = 10) -> list[Hit]:
        wanted = [_phrase(term) for term in terms(query)]
        spaces = self._database.read(_NUMBER, (blob(space),))
        if not wanted or not spaces:
            return []
        number = spaces[0][0]
        (items,) = self._database.read("SELECT count(*) FROM search_items WHERE space = ?", (number,))[0]
        rows = self._database.read(_FIND, (wanted, f"'#{number}'", float(items), limit))
        return [Hit(text(key), text(value), score) for key, value, score in rows]

    def forget(self, space: str, prefix: str) -> None:
        def write(connection: Connection) -> None:
            self._database.lock(connection, f"search:{space}")
            row = connection.execute(_NUMBER, (blob(space),)).fetchone()
            if row is not None:
                query = "DELETE FROM search_items WHERE space = ? AND key >= ? AND key < ?"
                connection.execute(query, begins(row[0], prefix))

        self._database.write(write, repeatable=True)

    def drop(self, space: str) -> None:
        def write(connection: Connection) -> None:
            self._database.lock(connection, f"search:{space}")
            row = connection.execute(_NUMBER, (blob(space),)).fetchone()
            if row is not None:
                connection.execute("DELETE FROM search_items WHERE space = ?", row)
                connection.execute("DELETE FROM search_spaces WHERE id = ?", row)

        self._database.write(write, repeatable=True)


def _vectors(number: int, indexed: str) -> Iterator[str]:
    """A text's words with their positions, in parts. The words have no character that needs an escape."""
    words = [word[:WORD_CHARS] for word in _WORDS.findall(indexed)]
    for start in range(0, max(1, len(words)), PART):
        part = words[start : start + PART + OVERLAP]
        yield " ".join([f"'#{number}'", *(f"'{word}':{place}" for place, word in enumerate(part, 1))])


def _phrase(term: Term) -> str:
    """A term in the language of tsquery."""
    words = [f"'{word[:WORD_CHARS]}'" for word in term.words]
    return " <-> ".join(words) + (":*" if term.prefix else "")
