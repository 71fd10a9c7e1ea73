"""The name that programs import from `autogen.cache.abstract_cache_base`; the module is named as they import it."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable


@runtime_checkable
class AbstractCache(Protocol):
    """What `cache=` takes, as annotations of programs have it: `Cache`, within or without `with`."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
