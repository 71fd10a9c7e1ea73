"""Noticing that a prompt cache which was used is used no more, though the requests only grew."""

from __future__ import annotations

import time

from wherry.messages import Usage

_HITS, _MISSES = 3, 2
"""In a row: fewer say nothing, since a hosted model's requests go to several machines."""
_IDLE_SECONDS = 240.0
"""Providers drop what was not asked for in five minutes (Anthropic, OpenAI; November 2026): a pause is no collapse."""


class CacheWatch:
    """Looks at the reports of one run."""

    def __init__(self) -> None:
        self._hits = 0
        self._misses = 0
        self._usual = 0
        self._grew = False
        self._asked: float | None = None

    def asked(self, *, grew: bool) -> None:
        """A request is made. `grew`: it begins with all of the one before."""
        now = time.monotonic()
        self._grew = grew and self._asked is not None and now - self._asked < _IDLE_SECONDS
        self._asked = now

    def collapsed(self, usage: Usage) -> bool:
        """Take in a report; whether it is the one by which the hits are over. True once for each collapse."""
        if usage.cached_tokens * 2 >= usage.input_tokens > 0:
            self._hits += 1
            self._misses = 0
            self._usual = usage.cached_tokens
        elif self._grew and self._hits >= _HITS and usage.cached_tokens * 4 < self._usual:
            self._misses += 1
            if self._misses == _MISSES:
                self._hits = self._misses = 0
                return True
        return False
