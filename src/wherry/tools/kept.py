"""Results of a tool that are kept in the run's store, and given again to the same call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wherry.errors import ToolError
from wherry.messages import ToolSchema, canonical, digest, parse
from wherry.tools.context import current_context

if TYPE_CHECKING:
    from wherry.store.protocol import Cache

VERSION = 1


class KeptResults:
    """The kept result of one call of a tool: same tool, same schema, same arguments.

    Only what JSON carries unchanged is kept: an object of another type would come back as something else. Outside of
    a run nothing is kept.
    """

    def __init__(self, schema: ToolSchema, arguments: Mapping[str, Any]) -> None:
        self._cache = _cache()
        self._key = "" if self._cache is None else _key(schema, arguments)

    def get(self) -> tuple[Any] | None:
        """The result, in a tuple since it may be None; None when there is none."""
        if self._cache is None or not self._key:
            return None
        found = self._cache.get(self._key)
        return None if found is None else (parse(found),)

    def keep(self, result: object, seconds: float) -> None:
        if self._cache is None or not self._key:
            return
        try:
            data = canonical(result)
            same = parse(data) == result
        except (TypeError, ValueError, RecursionError):
            return
        if same:
            self._cache.put(self._key, data, ttl=seconds)


def _cache() -> Cache | None:
    try:
        return current_context().store.cache
    except ToolError:
        return None


def _key(schema: ToolSchema, arguments: Mapping[str, Any]) -> str:
    """Empty for arguments that are no JSON: nothing could tell them apart."""
    try:
        return f"tool:{digest(canonical([VERSION, schema.to_json(), dict(arguments)]))}"
    except (TypeError, ValueError, RecursionError):
        return ""
