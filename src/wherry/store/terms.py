"""What a text index sees of a text and of a query: the same words, whichever database looks for them.

All of it is decided here, not by a database's tokenizer, so that a text is found by its own words on every backend.
Case, width and accents are folded (`Straße` is `strasse`, `café` is `cafe`). Scripts that are written without blanks
are cut into single characters, and a run of them in a query into overlapping pairs, each looked for as a phrase: a
trigram index would find no Chinese word of two characters, and most have two.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MOST_TERMS = 64
"""Words of a query beyond these are not looked for."""
QUERY_CHARS = 10_000
PREFIX_CHARS = 4
"""A word of so many characters also finds words that begin with it: the plural, the German compound."""

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_MARKED = "\u0900-\u0dff"  # Indic scripts: vowel signs are not letters to `re`, but parts of a word
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
_SYLLABLES = re.compile("[\uac00-\ud7a3]")  # Korean: a character is a syllable, and particles follow without a blank
_UNSPACED_START = re.compile(f"[{_UNSPACED}]")
_PIECES = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[\w{_MARKED}])+")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a query looks for: words next to each other."""

    words: tuple[str, ...]
    prefix: bool = False
    """Whether the last word may go on."""


def indexed(text: str) -> str:
    """The form of a text that goes to the index: words of letters, digits and non-ASCII characters, and what is none.

    For an ASCII text this is the same in every version of Python.
    """
    if text.isascii():
        return text.replace("\0", " ").lower()
    return " ".join(" ".join(_words(piece)) for piece in _pieces(text))


def terms(query: str) -> list[Term]:
    """What to look for, in the query's order, each once."""
    found: dict[Term, None] = {}
    for piece in _pieces(query[:QUERY_CHARS]):
        words = _words(piece)
        if _unspaced(piece):
            for start in range(max(1, len(words) - 1)):
                found[Term(tuple(words[start : start + 2]))] = None
        elif words:
            long = len(words[-1]) >= PREFIX_CHARS or _SYLLABLES.match(words[-1]) is not None
            found[Term(tuple(words), prefix=long)] = None
        if len(found) >= MOST_TERMS:
            break
    return list(found)[:MOST_TERMS]


def _pieces(text: str) -> list[str]:
    """The runs of letters, digits and underscores of a text, or of unspaced characters; folded."""
    if text.isascii():
        folded = text.lower()
    else:
        folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold())
        folded = unicodedata.normalize("NFKC", folded)  # Korean syllables together again
    return [match.group() for match in _PIECES.finditer(folded)]


def _words(piece: str) -> list[str]:
    """The words of a piece: `max_tokens` is two, as an unspaced run is as many as it has characters."""
    return list(piece) if _unspaced(piece) else [word for word in piece.split("_") if word]


def _unspaced(piece: str) -> bool:
    return _UNSPACED_START.match(piece) is not None
