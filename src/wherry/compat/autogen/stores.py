"""Where runs are kept: one store for all agents that say the same, opened once."""

from __future__ import annotations

import os
from functools import cache

from wherry.store import Store, open_store


def store_at(given: Store | str | None) -> Store:
    """A store, or the one at an address; None: the default one, wherever `$WHERRY_STORE` says now."""
    if given is not None and not isinstance(given, str):
        return given
    return _opened(given or os.environ.get("WHERRY_STORE"), os.getpid())


@cache
def _opened(url: str | None, process: int) -> Store:
    """A forked child opens its own."""
    return open_store(url)
