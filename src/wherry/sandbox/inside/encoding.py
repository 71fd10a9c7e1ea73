"""Values on the wire, both ways: JSON, and a tagged form for what JSON has no word for.

An object with one key that begins with `~` is such a form; an object of the snippet's that looks like one, or whose
keys are not all text, is written as `~dict`.

    ~dict [[key, value], ...]    ~tuple [...]    ~set [...]    ~frozenset [...]
    ~bytes "base64"    ~int "hexadecimal"    ~decimal "1.50"    ~complex [re, im]    ~uuid "hexadecimal"
    ~datetime "ISO 8601"    ~date "ISO 8601"    ~time "ISO 8601"    ~timedelta [days, seconds, microseconds]
    ~array [dtype, shape, "base64" or [...]]    ~table [[name, ...], [array, ...], index array or null]

NaN and the infinities are written as Python's json does. Standard library only: this module is used by both sides, the
host's and the one in the jail.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import io
import itertools
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, cast

from .arrays import Array, Table, packed

MAX_DEPTH = 100
MAX_BYTES = 7 << 20
"""Of a value, about; a frame has room for some more."""
MAX_REPR = 2000
MAX_COLLECTED = 10_000
"""Items that are taken out of a generator."""
MAX_BITS = 12_000
"""Of an integer: Python refuses to print more than 4,300 digits, and so would whoever shows the value."""
MAX_EXPONENT = 6_200
"""Of a decimal number; one with a greater exponent would fill the memory of whoever makes an integer of it."""
_LONG = 64
_SMALL = 1 << 60

dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ValueTooLargeError(ValueError):
    """The value does not fit a frame."""


class NoFormError(TypeError):
    """The value has no form on the wire."""


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


def encode(
    value: object,
    *,
    strict: bool = False,
    tuples: bool = False,
    drain: bool = False,
    huge: bool = False,
    other: Callable[[object], object] | None = None,
) -> Any:
    """`value` in its form on the wire, to be written as JSON.

    Dataclasses, pydantic models and mappings become objects, other sequences lists, enumerations their
    values, numpy's numbers Python's, paths text; a subclass what its parent class becomes.

    Args:
        value: anything.
        strict: refuse what has no form; else it becomes a bounded repr.
        tuples: keep tuples; else they become lists.
        drain: make lists of generators and other iterators, up to 10,000 items; else they are no data.
        huge: keep integers of any size; else those of more than 12,000 bits are no data.
        other: makes data of what is none of the above.

    Raises:
        ValueTooLargeError: it would not fit a frame.
        NoFormError: `strict`, and something has no form.
    """
    return _Encoder(strict, tuples, drain, huge, other).encode(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Encoded:
    """What `encode` gave, to be passed on as it is."""

    tree: Any


class _Encoder:
    __slots__ = ("_drain", "_huge", "_other_form", "_path", "_room", "_strict", "_tuples")

    def __init__(
        self, strict: bool, tuples: bool, drain: bool, huge: bool, other: Callable[[object], object] | None
    ) -> None:
        self._strict, self._tuples, self._drain, self._huge = strict, tuples, drain, huge
        self._other_form = other
        self._room = MAX_BYTES
        self._path: set[int] = set()

    def encode(self, value: Any) -> Any:
        kind = cast("type[object]", type(value))
        if kind is str:
            self._take(len(value) if value.isascii() else 3 * len(value))
            return value
        if value is None or kind is bool or kind is float:
            self._take(8)
            return value
        if kind is int:
            return value if -_SMALL < value < _SMALL else self._integer(value)
        if kind is list or kind is dict or kind is tuple:
            return self._within(value, value)
        return self._other(value)

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueTooLargeError(f"the value is larger than {MAX_BYTES >> 20} MiB")

    def _within(self, value: object, data: Any) -> Any:
        """A container: once on each way down, and not too deep."""
        if id(value) in self._path:
            return self._odd(value, "a value that holds itself cannot be passed")
        if len(self._path) >= MAX_DEPTH:
            return self._odd(value, f"nested deeper than {MAX_DEPTH}")
        self._path.add(id(value))
        try:
            if isinstance(data, dict):
                return self._object(cast("dict[Any, Any]", data))
            if isinstance(data, set | frozenset):
                return self._members(cast("set[Any] | frozenset[Any]", data))
            items = self._items(data)
            return {"~tuple": items} if self._tuples and isinstance(data, tuple) else items
        finally:
            self._path.discard(id(value))

    def _items(self, items: list[Any] | tuple[Any, ...]) -> list[Any]:
        self._take(16 + 2 * len(items))
        if len(items) > _LONG:  # long lists are mostly of numbers, and those need not be looked at one by one
            kinds = set(map(type, items))
            if kinds <= {float, bool} or (kinds == {int} and min(items) > -_SMALL and max(items) < _SMALL):
                self._take(8 * len(items))
                return list(items)
        encode = self.encode
        return [encode(item) for item in items]

    def _object(self, data: dict[Any, Any]) -> dict[str, Any]:
        self._take(2)
        out: dict[str, Any] = {}
        for key, item in data.items():
            if not isinstance(key, str):
                return self._pairs(data)
            self._take(4 + (len(key) if key.isascii() else 3 * len(key)))
            out[key if type(key) is str else str.__str__(key)] = self.encode(item)
        if len(out) == 1 and next(iter(out)).startswith("~"):
            return {"~dict": [[key, item] for key, item in out.items()]}
        return out

    def _members(self, data: set[Any] | frozenset[Any]) -> dict[str, Any]:
        self._take(10 + 2 * len(data))
        members = [self._key(member) for member in _sorted(data)]
        return {"~set" if isinstance(data, set) else "~frozenset": members}

    def _pairs(self, data: dict[Any, Any]) -> dict[str, Any]:
        self._take(10)
        return {"~dict": [[self._key(key), self.encode(item)] for key, item in data.items()]}

    def _key(self, key: object) -> Any:
        """Keys and members must be data that can be a key again."""
        kept, self._tuples = self._tuples, True
        try:
            made = self.encode(key)
        finally:
            self._tuples = kept
        if _is(made, list) or (_is(made, dict) and next(iter(made), None) not in _HASHABLE):
            return self._odd(key, f"a {type(key).__name__} cannot be passed as a key")
        return made

    def _integer(self, value: int) -> Any:
        bits = value.bit_length()
        self._take(bits // 3 + 2)
        if bits <= MAX_BITS:
            return value
        if self._huge:
            return {"~int": hex(value)}
        if self._strict:
            raise NoFormError(f"an integer of {bits:,} bits is too large to be passed")
        return f"<an integer of {bits:,} bits>"

    def _other(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.encode(str.__str__(value))  # the plain text of a subclass, past its own methods
        if isinstance(value, enum.Enum):
            return self.encode(value.value) if type(value.value) is not type(value) else self._odd(value, "an enum")
        if isinstance(value, int):
            return self.encode(int.__int__(value))
        if isinstance(value, float):
            return self.encode(float.__float__(value))
        if _is(value, bytes, bytearray, memoryview):
            return {"~bytes": self._base64(bytes(value))}
        if type(value).__name__ in _NOTHING:
            return None
        for kind, tag, form in _FORMS:
            if isinstance(value, kind):
                self._take(40)
                made = form(value)
                return self._odd(value, f"{value} is too large") if made is None else {tag: made}
        if isinstance(value, Array | Table):
            return self._packed(value)
        if isinstance(value, Encoded):
            return value.tree
        data = _contents(value)
        return self._leaf(value) if data is None else self._within(value, data)

    def _leaf(self, value: Any) -> Any:
        held = packed(value, self._items)
        if held is not None:
            return self._packed(held)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic):
            plain: object = value.item()
            # Nanoseconds have no Python type, and numpy hands out a bare number for them.
            return self.encode(str(value) if value.dtype.kind in "mM" and isinstance(plain, int) else plain)
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self.encode(value.tolist())  # a masked array: holes are None
        if isinstance(value, os.PathLike):
            return self.encode(os.fspath(cast("os.PathLike[str]", value)))
        if self._drain and _is(value, Iterator) and not _is(value, io.IOBase):
            return self._within(value, self._drained(value))
        if self._other_form is not None:
            made = self._other_form(value)
            return self.encode(made) if type(made) is not type(value) else self._odd(value, "no data")
        return self._odd(value, f"a {type(value).__name__} is no data")

    def _drained(self, items: Iterator[Any]) -> list[Any]:
        taken = list(itertools.islice(items, MAX_COLLECTED + 1))
        if len(taken) > MAX_COLLECTED:
            text = f"a generator gave more than {MAX_COLLECTED:,} items"
            raise ValueTooLargeError(f"{text}; make a list of those that are needed")
        return taken

    def _packed(self, held: Array | Table) -> dict[str, Any]:
        if isinstance(held, Array):
            return {"~array": self._parts(held)}
        index = None if held.index is None else self._parts(held.index)
        return {"~table": [held.names, [self._parts(column) for column in held.columns], index]}

    def _parts(self, held: Array) -> list[Any]:
        return [held.dtype, list(held.shape), self._base64(held.data) if isinstance(held.data, bytes) else held.data]

    def _base64(self, data: bytes) -> str:
        self._take(len(data) * 4 // 3 + 12)
        return base64.b64encode(data).decode("ascii")

    def _odd(self, value: object, reason: str) -> str:
        if self._strict:
            raise NoFormError(reason)
        text = bounded_repr(value)
        self._take(len(text))
        return text


def _is(value: object, *kinds: Any) -> bool:
    """`isinstance` for foreign values, of which a type checker would know too little afterwards."""
    return isinstance(value, kinds)


def _contents(value: Any) -> Any:
    """A container of any kind as a plain dict, list, tuple or set; None if it is none."""
    if _is(value, dict):
        return dict(value.items())
    if _is(value, tuple):
        return tuple(value)
    if _is(value, list):
        return list(value)
    if _is(value, set):
        return set(value)
    if _is(value, frozenset):
        return frozenset(value)
    kind = cast("Any", type(value))
    if hasattr(kind, "__dataclass_fields__"):
        names = [field.name for field in _fields(value)]
        return {name: getattr(value, name, None) for name in names}
    if hasattr(kind, "model_fields_set"):
        return value.model_dump()
    if _is(value, Mapping):
        return dict(value)
    plain = _is(value, KeysView, ValuesView, AbstractSet, range) or kind.__module__ in _SEQUENCES
    return list(value) if plain and hasattr(value, "__iter__") else None


def _sorted(members: Iterable[Any]) -> list[Any]:
    try:
        return sorted(members)  # the order of a set differs from process to process
    except TypeError:
        return list(members)


def decimal_text(value: decimal.Decimal) -> str | None:
    """None if it is too large to be passed."""
    exponent = value.as_tuple().exponent
    large = isinstance(exponent, int) and max(abs(exponent), abs(value.adjusted())) > MAX_EXPONENT
    return None if large else str(value)


_FORMS: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (datetime.datetime, "~datetime", datetime.datetime.isoformat),
    (datetime.date, "~date", datetime.date.isoformat),
    (datetime.time, "~time", datetime.time.isoformat),
    (datetime.timedelta, "~timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    (decimal.Decimal, "~decimal", decimal_text),
    (uuid.UUID, "~uuid", lambda value: f"{value.int:032x}"),
    (complex, "~complex", lambda value: [value.real, value.imag]),
)
_fields: Callable[[Any], Any] = dataclasses.fields
_NOTHING = frozenset({"NaTType", "NAType"})  # pandas' "no time", which is a datetime too, and "no value"
_SEQUENCES = frozenset({"collections", "array"})  # deque, array.array
_HASHABLE = frozenset(
    {"~tuple", "~frozenset", "~bytes", "~int", *(tag for _, tag, _ in _FORMS)}
)  # tags of what can be a key
