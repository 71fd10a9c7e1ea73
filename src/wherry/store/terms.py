"""What a text index sees of a text and of a query: the same words, whichever database looks for them.

Folded by NFKC and case folding (`Straße` is `strasse`, full-width letters are letters; accents are left to the
database). Scripts that are written without blanks are cut into single characters, and a run of them in a query into
overlapping pairs, each looked for as a phrase: a trigram index would find no Chinese word of two characters, and most
have two.
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
_SYLLABLES = re.compile("[\uac00-\ud7a3]")  # Korean: a character is a syllable, and particles follow without a blank

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Japanese kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_EACH = re.compile(f"([{_UNSPACED}])")
_UNINDEXED = re.compile("[\x00\ud800-\udfff]")
_PIECES = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W_])(?:(?![{_UNSPACED}])\w)*")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a query looks for: words next to each other."""

    words: tuple[str, ...]
    prefix: bool = False
    """Whether the last word may go on."""


def indexed(text: str) -> str:
    """The form of a text that goes to the index."""
    return _EACH.sub(r" \1 ", _folded(text))


def terms(query: str) -> list[Term]:
    """What to look for, in the query's order, each once."""
    found: dict[Term, None] = {}
    for match in _PIECES.finditer(_folded(query[:QUERY_CHARS])):
        piece = match.group()
        if _EACH.match(piece):
            for start in range(max(1, len(piece) - 1)):
                found[Term(tuple(piece[start : start + 2]))] = None
        else:
            words = tuple(word for word in piece.split("_") if word)  # `max_tokens` is two words to the databases
            found[Term(words, prefix=len(piece) >= PREFIX_CHARS or bool(_SYLLABLES.match(piece)))] = None
        if len(found) >= MOST_TERMS:
            break
    return list(found)[:MOST_TERMS]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", _UNINDEXED.sub(" ", text)).casefold()
