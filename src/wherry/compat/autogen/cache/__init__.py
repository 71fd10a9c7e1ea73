"""The names that programs import from `autogen.cache`."""

from __future__ import annotations

from wherry.compat.autogen.cache.abstract_cache_base import AbstractCache
from wherry.compat.autogen.cache.cache import Cache

__all__ = ["AbstractCache", "Cache"]
