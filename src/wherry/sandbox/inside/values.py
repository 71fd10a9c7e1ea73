"""What a snippet's values become on the wire: JSON, with bounds on size and depth."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import math
from typing import Any, cast

MAX_DEPTH = 50
MAX_BYTES = 7 << 20
"""Of text and numbers; a frame has room for some more."""
MAX_REPR = 2000


class ValueTooLargeError(ValueError):
    """The value does not fit a frame."""


def bounded_repr(value: object) -> str:
    """`repr`, of at most 2,000 characters, whatever the value's own `__repr__` does."""
    try:
        text = repr(value)
        if type(text) is not str:
            text = str.__str__(text)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a snippet's class may raise anything
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    return text if len(text) <= MAX_REPR else f"{text[:MAX_REPR]}... ({len(text):,} characters)"


def to_json(value: object, *, strict: bool) -> Any:
    """`value` as JSON.

    Bytes become `{"base64": ...}`, dates ISO text, decimals text, dataclasses and dicts objects, sequences and sets
    lists, NaN and infinities text; a subclass what its parent class becomes.

    Args:
        strict: raise for what has no JSON form; else it becomes a bounded repr.

    Raises:
        ValueTooLargeError: it would not fit a frame.
        TypeError: `strict`, and something has no JSON form.
    """
    return _Converter(strict).convert(value, 0)


class _Converter:
    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.room = MAX_BYTES

    def _take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise ValueTooLargeError(f"the value is larger than {MAX_BYTES >> 20} MiB")

    def convert(self, value: Any, depth: int) -> Any:
        kind = cast("type[object]", type(value))
        if value is None or kind is bool:
            self._take(5)
            return value
        if kind is str:
            self._take(len(value))
            return value
        if kind is int:
            return self._integer(value)
        if kind is float:
            self._take(20)
            return value if math.isfinite(value) else repr(value)
        if depth >= MAX_DEPTH:
            return self._other(value, f"nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            pairs = cast("dict[Any, Any]", value).items()
            return {self._key(key): self.convert(item, depth + 1) for key, item in pairs}
        if isinstance(value, (list, tuple, set, frozenset)):
            self._take(2)
            return [self.convert(item, depth + 1) for item in cast("list[Any]", value)]
        return self._special(value, depth)

    def _integer(self, value: int) -> int | str:
        if value.bit_length() > 12_000:  # Python refuses to print integers of over 4,300 digits
            if self.strict:
                raise TypeError(f"an integer of {value.bit_length():,} bits is too large to be passed")
            return f"<an integer of {value.bit_length():,} bits>"
        self._take(value.bit_length() // 3 + 2)
        return value

    def _key(self, key: object) -> str:
        text = key if type(key) is str else str(self.convert(key, MAX_DEPTH))
        self._take(len(text) + 4)
        return text

    def _special(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.convert(str.__str__(value), depth)  # the plain text of a subclass, past its own methods
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth + 1)
        if isinstance(value, bool | int):
            return self._integer(int.__int__(value))
        if isinstance(value, float):
            return self.convert(float.__float__(value), depth)
        if isinstance(value, bytes | bytearray):
            self._take(len(value) * 4 // 3)
            return {"base64": base64.b64encode(value).decode("ascii")}
        if isinstance(value, datetime.date | datetime.time):
            return self.convert(value.isoformat(), depth + 1)
        if isinstance(value, decimal.Decimal):
            return self.convert(str(value), depth + 1)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self.convert(fields, depth)
        return self._other(value, f"a {type(value).__name__} has no JSON form")

    def _other(self, value: object, reason: str) -> str:
        if self.strict:
            raise TypeError(reason)
        text = bounded_repr(value)
        self._take(len(text))
        return text
