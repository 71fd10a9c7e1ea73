"""Full text in SQLite: FTS5 over words, beside a table with the texts as they were given.

The index holds words only (`content=''`): to forget a text it must be told the same words again. What they are of a
text that is not ASCII depends on Python's version of Unicode, so these are kept; other texts stand in the database
once. A space is a word of its own in a column of its own: looking in one space costs nothing for what the others hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from wherry.failpoints import failpoint
from wherry.redaction import redact
from wherry.store.database import Connection, Database, blob, text
from wherry.store.records import Hit
from wherry.store.terms import Term, indexed, terms

_NUMBER = "SELECT id FROM search_spaces WHERE space = ?"


class FTSIndex:
    """A text index on SQLite's FTS5."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, space: str, items: Iterable[tuple[str, str]], *, cursor: int | None = None) -> None:
        rows = prepared(items)

        def write(connection: Connection) -> None:
            query = "INSERT INTO search_spaces (space, position) VALUES (?, 0) ON CONFLICT (space) DO NOTHING"
            connection.execute(query, (blob(space),))
            number = connection.execute(_NUMBER, (blob(space),)).fetchone()[0]
            for key, value, words in rows:
                query = "SELECT id, text, words FROM search_items WHERE space = ? AND key = ?"
                known = connection.execute(query, (number, key)).fetchone()
                if known is not None:
                    _forget(connection, number, [known])
                connection.execute(
                    "INSERT INTO search_items (space, key, text, words) VALUES (?, ?, ?, ?)",
                    (number, key, value, None if value.isascii() else blob(words)),
                )
                connection.execute(
                    "INSERT INTO search_words (rowid, space, words) VALUES (last_insert_rowid(), ?, ?)",
                    (f"s{number}", words),
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
        wanted = terms(query)
        numbers = self._database.read(_NUMBER, (blob(space),))
        if not wanted or not numbers:
            return []
        match = f"space : s{numbers[0][0]} AND words : ({' OR '.join(map(_phrase, wanted))})"
        rows = self._database.read(
            "SELECT i.key, i.text, h.score FROM (SELECT rowid AS item, bm25(search_words, 0.0, 1.0) AS score "
            "FROM search_words WHERE search_words MATCH ? ORDER BY score LIMIT ?) AS h "
            "JOIN search_items AS i ON i.id = h.item ORDER BY h.score, i.id",
            (match, limit),
        )
        return [Hit(text(key), text(value), -score) for key, value, score in rows]

    def forget(self, space: str, prefix: str) -> None:
        def write(connection: Connection) -> None:
            row = connection.execute(_NUMBER, (blob(space),)).fetchone()
            if row is not None:
                query = "SELECT id, text, words FROM search_items WHERE space = ? AND key >= ? AND key < ?"
                _forget(connection, row[0], connection.execute(query, begins(row[0], prefix)).fetchall())

        self._database.write(write, repeatable=True)

    def drop(self, space: str) -> None:
        def write(connection: Connection) -> None:
            row = connection.execute(_NUMBER, (blob(space),)).fetchone()
            if row is None:
                return
            number = row[0]
            query = "SELECT id, text, words FROM search_items WHERE space = ?"
            _forget(connection, number, connection.execute(query, (number,)).fetchall())
            connection.execute("DELETE FROM search_spaces WHERE id = ?", (number,))

        self._database.write(write, repeatable=True)


def begins(number: int, prefix: str) -> tuple[int, bytes, bytes]:
    """A space, and between which keys those are that begin in some way."""
    return number, blob(prefix), blob(prefix) + b"\xff"  # a byte that is in no text's UTF-8


def prepared(items: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes, str]]:
    """Key, text and words of items, without secrets."""
    clean = ((key, redact(text)) for key, text in items)
    return [(blob(key), blob(text), indexed(text)) for key, text in clean]


def _forget(connection: Connection, number: int, items: list[tuple[int, bytes, bytes | None]]) -> None:
    """Take items out of the table and the index."""
    connection.executemany(
        "INSERT INTO search_words (search_words, rowid, space, words) VALUES ('delete', ?, ?, ?)",
        ((item, f"s{number}", indexed(text(value)) if words is None else text(words)) for item, value, words in items),
    )
    connection.executemany("DELETE FROM search_items WHERE id = ?", ((item,) for item, *_ in items))


def _phrase(term: Term) -> str:
    """A term in FTS5's query language. Quoted, so that no word is an operator."""
    words = " ".join(term.words).replace('"', '""')
    return f'"{words}"*' if term.prefix else f'"{words}"'
