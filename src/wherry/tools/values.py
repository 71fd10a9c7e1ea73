"""What a tool gives back, as JSON and as text.

Both functions are total: they take any object and never raise. What JSON cannot carry becomes the nearest thing that
it can, or a short description in `<...>`, so that a strange result costs its caller a look, not the run.
"""

from __future__ import annotations

import json
import math
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator, Collection, Generator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from itertools import islice
from os import PathLike, fspath
from typing import Any, cast

from wherry.errors import ToolError
from wherry.messages import JSON

MAX_DEPTH = 100
"""Levels of nesting that are kept; `json.dumps` itself gives up near 1,000."""
MAX_NODES = 1_000_000
"""Values that one result is turned into; without it 60 lists, each holding the next one twice, become 2**60."""
MAX_REPR = 2_000
"""Characters of the `repr` of an object that is no data."""
MAX_GATHERED = 10_000
"""Items that are taken from a tool's generator."""
MAX_DIGITS = 100_000
"""Digits of an integer that are written out."""

_PLAIN = frozenset({bool, type(None)})
_ARRAYS = "wherry.sandbox.inside.arrays"
"""Whose records of arrays and data frames say themselves what they are; by name, for whoever needs no sandbox."""


def as_json(value: object) -> JSON:
    """`value` as JSON that every reader takes.

    * Dataclasses and pydantic models become objects, other mappings too, with keys as strings.
    * Lists, tuples, sets (sorted where that is possible), ranges and numpy arrays become lists.
    * Dates, times, UUIDs, paths, enumerations and `Decimal` become what pydantic writes for them.
    * Bytes become `{"base64": ...}`.
    * NaN and the infinities become the strings `"NaN"`, `"Infinity"`, `"-Infinity"`; an integer of more digits than
      Python reads back becomes a string of its digits.
    * Lone surrogates become U+FFFD. Cycles, nesting deeper than `MAX_DEPTH` and anything after `MAX_NODES` values
      are replaced by a description in `<...>`.
    * Any other object becomes its `repr`, at most `MAX_REPR` characters.
    """
    return _Converter().convert(value)


def as_text(value: object) -> str:
    """`value` as text for a model: a string as it is, `None` as `None`, text in bytes decoded, all else as JSON."""
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    out = as_json(value)
    if isinstance(out, str):
        return out
    return "None" if out is None else json.dumps(out, ensure_ascii=False)


def brief(value: object, limit: int = MAX_REPR) -> str:
    """The `repr` of any object, at most `limit` characters, also where its own `repr` fails."""
    try:
        text = _clean(repr(value))
    except Exception:  # noqa: BLE001  a foreign object's repr may raise anything
        return f"<{type(value).__name__} object whose repr fails>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def gathered(items: Generator[object, Any, Any]) -> list[object]:
    """What a tool's generator yields.

    Raises:
        ToolError: it yields more than `MAX_GATHERED` items.
    """
    out = list(islice(items, MAX_GATHERED + 1))
    if len(out) > MAX_GATHERED:
        items.close()
        raise _endless()
    return out


async def gathered_async(items: AsyncGenerator[object, Any]) -> list[object]:
    """What a tool's async generator yields.

    Raises:
        ToolError: it yields more than `MAX_GATHERED` items.
    """
    out: list[object] = []
    async with aclosing(items):
        async for item in items:
            if len(out) == MAX_GATHERED:
                raise _endless()
            out.append(item)
    return out


def _endless() -> ToolError:
    return ToolError(f"the tool yielded more than {MAX_GATHERED:,} items, which is as many as are taken")


def _clean(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _integer(value: int) -> int | str:
    if value.bit_length() < 2_000:  # 603 digits: under any limit that Python can be set to
        return value
    limit = sys.get_int_max_str_digits() or 4_300
    digits = int((value.bit_length() - 1) * math.log10(2)) + 1  # or one more
    if digits < min(limit, 4_300):
        return value
    if digits > MAX_DIGITS:
        return f"<integer of about {digits} digits>"
    # `str(int)` refuses numbers of this size, `Decimal` writes them out exactly.
    return format(Decimal(value), "f")


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


class _Converter:
    """One conversion: what it has spent, and the containers that it is inside of."""

    __slots__ = ("_left", "_path")

    def __init__(self) -> None:
        self._left = MAX_NODES
        self._path: set[int] = set()

    def convert(self, value: object) -> JSON:
        kind = type(value)
        if kind is str:
            return _clean(cast("str", value))
        if kind in _PLAIN:
            return cast("bool | None", value)
        if kind is int:
            return _integer(cast("int", value))
        if kind is float:
            return _number(cast("float", value))
        if kind is list or kind is tuple or kind is dict:
            return self._inside(value, cast("list[Any] | tuple[Any, ...] | dict[Any, Any]", value))
        try:
            return self._other(value)
        except (Exception, RecursionError):  # noqa: BLE001  foreign objects may raise anything from any of their methods
            return brief(value)

    def _other(self, value: object) -> JSON:
        if type(value).__module__ == _ARRAYS:
            return self.convert(cast("Any", value).as_data())
        if isinstance(value, Enum):
            return self.convert(value.value) if type(value.value) is not type(value) else brief(value)
        if isinstance(value, str):
            return _clean(str.__str__(value))
        if isinstance(value, int):
            return _integer(int.__index__(value))
        if isinstance(value, float):
            return _number(float.__float__(value))
        if isinstance(value, (bytes, bytearray)):
            return {"base64": b64encode(value).decode()}
        inside = self._container(value)
        return self._leaf(value) if inside is None else self._inside(value, inside)

    def _inside(self, value: object, inside: Mapping[Any, Any] | Collection[Any]) -> JSON:
        """A container, at most once on each way down and not too deep."""
        if id(value) in self._path:
            return f"<{type(value).__name__} that holds itself>"
        if len(self._path) >= MAX_DEPTH:
            return f"<{type(value).__name__} nested deeper than {MAX_DEPTH} levels>"
        self._path.add(id(value))
        try:
            if isinstance(inside, Mapping):
                return self._object(cast("Mapping[object, object]", inside))
            return self._array(inside)
        finally:
            self._path.discard(id(value))

    def _container(self, value: object) -> Mapping[Any, Any] | Collection[Any] | None:  # Any: foreign data
        """What `value` holds, if it is a container of any kind."""
        if isinstance(value, Mapping):
            return cast("Mapping[Any, Any]", value)
        if isinstance(value, AbstractSet):
            unordered = cast("AbstractSet[Any]", value)
            try:
                return sorted(unordered)  # the order of a set of strings differs from process to process
            except TypeError:
                return sorted(unordered, key=lambda item: (type(item).__name__, brief(item)))
        if isinstance(value, Collection):
            items = cast("Collection[Any]", value)
            return items if _is_data(items) else None
        if is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name, None) for field in fields(value)}
        dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
        if callable(dump) and hasattr(value, "model_fields_set"):
            return cast("Mapping[Any, Any]", dump())
        return None

    def _leaf(self, value: object) -> JSON:
        if not isinstance(value, type) and hasattr(value, "dtype"):
            # numpy, by its shape: a scalar has `item`, an array `tolist`; both give plain Python values.
            for method in ("tolist", "item"):
                if callable(plain := getattr(value, method, None)):
                    made: object = plain()
                    return self.convert(made) if type(made) is not type(value) else brief(value)
        if isinstance(value, PathLike):
            return self.convert(fspath(cast("PathLike[str]", value)))
        if isinstance(value, type) or callable(value) or hasattr(type(value), "__iter__"):
            return brief(value)  # a generator may have no end, and pydantic would walk it
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        try:
            made = to_jsonable_python(value)
        except (PydanticSerializationError, ValueError):
            return brief(value)
        return self.convert(made) if isinstance(made, (str, int, float)) else brief(value)

    def _array(self, items: Iterable[object]) -> JSON:
        out: list[JSON] = []
        for item in items:
            if self._left <= 0:
                out.append("<more items left out>")
                break
            self._left -= 1
            out.append(self.convert(item))
        return out

    def _object(self, items: Mapping[object, object]) -> JSON:
        out: dict[str, JSON] = {}
        for key, item in items.items():
            if self._left <= 0:
                out["<more items left out>"] = None
                break
            self._left -= 1
            name = _clean(key) if type(key) is str else self._key(key)
            if name in out:
                name = f"{name} <{type(key).__name__}>"  # {1: ..., "1": ...}: neither may be lost
            out[name] = self.convert(item)
        return out

    def _key(self, key: object) -> str:
        made = self.convert(key)
        if isinstance(made, str):
            return made
        return str(made) if isinstance(made, (int, float)) or made is None else brief(key, 200)


def _is_data(value: object) -> bool:
    """Whether a collection is plain data, not a class's own idea of one, such as a data frame."""
    return isinstance(value, (list, tuple, range)) or type(value).__module__ in {"collections", "array", "builtins"}
