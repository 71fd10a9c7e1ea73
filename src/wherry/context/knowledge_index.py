"""Finding sections: by their words, in the store's full-text index, and by meaning, where a function for that is given.

The index is named by where the documents come from. It holds each document's sections under the digest of its content:
a document that is the same as last time is not indexed again, by whichever process.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from typing import cast

from wherry.context.knowledge_sections import Section
from wherry.store.protocol import Store

Embed = Callable[[list[str]], Sequence[Sequence[float]]]
"""Texts to vectors, one each, all of one length."""

_FORMAT = 1
"""Part of the index's name: sections that were cut in another way are never mixed with these."""
_BATCH = 64
_RANKED = 64
"""Sections that a search looks at, of each kind."""
_FUSION = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): 1 / (60 + rank), over all rankings."""
_CLEARLY_WORSE = 0.2
"""Share of the best score by words below which a section has nothing but common words with the query."""
_MOST_TERMS = 64

_IDLE_WORDS = """
a about an and any are as at be been by can could did do does for from get give had has have how i in into is it its
me much my of on or please that the their them there these they this those to use was we were what when where which who
whom whose will with would you your
"""
_IDLE = frozenset(_IDLE_WORDS.split())

Digests = dict[str, tuple[str, int]]
"""Document -> digest of its content, number of its sections."""


def synchronize(store: Store, space: str, documents: Mapping[str, tuple[str, Sequence[Section]]]) -> int:
    """Bring the index of a store up to date; how many documents had to be indexed.

    Args:
        space: The index's name, as `space_of` makes it.
        documents: Name -> digest of the content, sections.

    Raises:
        StoreError: The store cannot be written.
    """
    before = _known(store, space)
    if before is None:
        store.search.drop(space)
        before = {}
    now: Digests = {name: (digest, len(found)) for name, (digest, found) in documents.items()}
    changed = [name for name in now if before.get(name) != now[name]]
    items: list[tuple[str, str]] = []
    for name in changed:
        items += [(section.key, _indexed(section)) for section in documents[name][1]]
        items += [(f"{name}#{n}", "") for n in range(now[name][1], before.get(name, ("", 0))[1])]
    for name in before.keys() - now.keys():
        items += [(f"{name}#{n}", "") for n in range(before[name][1])]
    if items:
        store.search.add(space, items)
    if now != before:
        store.cache.put(space, json.dumps(now).encode())
    return len(changed)


def space_of(names: Sequence[str]) -> str:
    """The name of the index for documents that come from `names`."""
    said = json.dumps([_FORMAT, *names]).encode("utf-8", "surrogatepass")
    return f"knowledge/{hashlib.sha256(said).hexdigest()[:32]}"


def by_words(store: Store, space: str, query: str) -> list[str]:
    """Keys of the sections that speak of the query, best first."""
    hits = store.search.find(space, _terms(query), limit=_RANKED)
    return [hit.key for hit in hits if hit.score >= hits[0].score * _CLEARLY_WORSE]


def fused(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Several rankings as one, by reciprocal rank fusion: what several of them place well comes first."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, 1):
            scores[key] = scores.get(key, 0.0) + 1 / (_FUSION + rank)
    return sorted(scores, key=lambda key: -scores[key])


class Vectors:
    """Sections by meaning. Vectors are kept in memory, by the digest of their text.

    Args:
        embed: Makes vectors of texts.
    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._vectors: dict[str, array[float]] = {}

    def rank(self, query: str, sections: Sequence[Section]) -> list[str]:
        """Keys of the sections nearest to the query.

        Raises:
            ValueError: What `embed` gave are no vectors of one length.
            Exception: Whatever `embed` raised.
        """
        named = [(section.key, _digest(_indexed(section)), section) for section in sections]
        missing = {digest: _indexed(section) for _, digest, section in named if digest not in self._vectors}
        todo = list(missing.items())
        for start in range(0, len(todo), _BATCH):
            part = todo[start : start + _BATCH]
            for (digest, _), vector in zip(part, self._made([text for _, text in part]), strict=True):
                self._vectors[digest] = vector
        wanted = {digest for _, digest, _ in named}
        self._vectors = {digest: vector for digest, vector in self._vectors.items() if digest in wanted}
        (asked,) = self._made([query])
        near = [(_dot(asked, self._vectors[digest]), key) for key, digest, _ in named]
        near.sort(key=lambda pair: -pair[0])
        return [key for _, key in near[:_RANKED]]

    def _made(self, texts: list[str]) -> list[array[float]]:
        vectors = [array("f", vector) for vector in self._embed(texts)]
        if len(vectors) != len(texts):
            raise ValueError(f"embed gave {len(vectors)} vectors for {len(texts)} texts")
        known = next(iter(self._vectors.values()), vectors[0])
        if any(len(vector) != len(known) or not len(vector) for vector in vectors):
            raise ValueError("embed gave vectors of different lengths")
        return [_normal(vector) for vector in vectors]


def _normal(vector: array[float]) -> array[float]:
    size = math.sqrt(sum(map(mul, vector, vector)))
    return array("f", [number / size for number in vector]) if size > 0 and math.isfinite(size) else vector


def _dot(one: array[float], other: array[float]) -> float:
    near = sum(map(mul, one, other))
    return near if math.isfinite(near) else -1.0


def _known(store: Store, space: str) -> Digests | None:
    data = store.cache.get(space)
    if data is None:
        return None
    try:
        raw = cast("dict[str, tuple[str, int]]", json.loads(data))
        return {name: (digest, count) for name, (digest, count) in raw.items()}
    except (ValueError, TypeError, AttributeError):
        return None


def _indexed(section: Section) -> str:
    """Headings twice: what a section is called says more than what stands in it."""
    return f"{section.heading}\n{section.title}\n{section.text}"


def _terms(query: str) -> str:
    """The words of a query that are worth looking for; of a long one, from its beginning and its end."""
    words = list(dict.fromkeys(re.findall(r"\w+", query[:100_000])))
    telling = [word for word in words if word.casefold() not in _IDLE and len(word) > 1] or words
    if len(telling) > _MOST_TERMS:
        telling = [*telling[: _MOST_TERMS * 2 // 3], *telling[-_MOST_TERMS // 3 :]]
    return " ".join(telling)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
