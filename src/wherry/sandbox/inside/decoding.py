"""Reading what `encoding` wrote. On the host's side it is taken for hostile: it gives a value or a ValueError.

Standard library only: this module is used by both sides.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from .arrays import Array, Table, unpacked
from .encoding import MAX_EXPONENT, decimal_text, dumps

_MOST_ALIKE = 16
"""Keys of one hash that a table may have."""


def decode(body: bytes) -> Any:
    """The value that came from inside; arrays and data frames as `Array` and `Table`.

    Args:
        body: JSON as UTF-8, lone surrogates let through.

    Raises:
        ValueError, RecursionError: it is none.
    """
    text = body.decode("utf-8", "surrogatepass")
    return (_HOSTILE if b'"~' in body else _PLAIN).decode(text)


def decode_inside(body: bytes) -> Any:
    """The value that the host sent; arrays and data frames are real ones where numpy and pandas are."""
    text = body.decode("utf-8", "surrogatepass")
    return (_INSIDE if b'"~' in body else _PLAIN).decode(text)


def restore(tree: Any) -> Any:
    """The value of what `encode` gave, perhaps stored in between."""
    return _OWN.decode(dumps(tree))


def _list(data: Any) -> list[Any]:
    if type(data) is not list:
        raise TypeError("no list")
    return cast("list[Any]", data)


def _text(data: Any) -> str:
    if type(data) is not str:
        raise TypeError("no text")
    return data


def _keys(keys: list[Any]) -> list[Any]:
    """Refuse keys whose hashes are made to collide: a table of them takes time that is quadratic in their number.

    Only those of texts and bytes are random; an integer's can be chosen. Each table is looked at by itself: many with
    few such keys each cost no more than their number.
    """
    chosen = [key for key in keys if type(key) is not str and type(key) is not bytes]
    if len(chosen) <= _MOST_ALIKE:
        return keys
    hashes = list(map(hash, chosen))
    crowded = {value for value, count in Counter(hashes).items() if count > _MOST_ALIKE}
    if crowded:  # equal keys are one: what is no data may come as the same text often, and NaN is one object
        alike: dict[int, set[Any]] = {value: set() for value in crowded}
        for key, value in zip(chosen, hashes, strict=True):
            if value in crowded:
                alike[value].add(key)
                if len(alike[value]) > _MOST_ALIKE:
                    raise ValueError("keys that collide")
    return keys


def _dict(data: Any) -> dict[Any, Any]:
    pairs = _list(data)
    if any(type(pair) is not list or len(pair) != 2 for pair in pairs):
        raise TypeError("no pairs")
    return dict(zip(_keys([pair[0] for pair in pairs]), [pair[1] for pair in pairs], strict=True))


def _bytes(data: Any) -> bytes:
    return base64.b64decode(_text(data), validate=True)


def _numbers(data: Any, kind: type, count: int) -> list[Any]:
    numbers = _list(data)
    if len(numbers) != count or any(type(number) is not kind for number in numbers):
        raise TypeError("not the numbers that it takes")
    return numbers


def _decimal(data: Any) -> decimal.Decimal:
    value = decimal.Decimal(_text(data)) if len(_text(data)) <= 2 * MAX_EXPONENT else None
    if value is None or decimal_text(value) is None:
        raise ValueError("too large")
    return value


def _array(data: Any) -> Array:
    dtype, shape, held = _list(data)
    return Array(_text(dtype), tuple(_list(shape)), _list(held) if isinstance(held, list) else _bytes(held))


def _table(data: Any) -> Table:
    names, columns, index = _list(data)
    return Table(_list(names), [_array(column) for column in _list(columns)], None if index is None else _array(index))


_Readers = dict[str, Callable[[Any], Any]]
_READERS: _Readers = {
    "~dict": _dict,
    "~tuple": lambda data: tuple(_list(data)),
    "~set": lambda data: set(_keys(_list(data))),
    "~frozenset": lambda data: frozenset(_keys(_list(data))),
    "~bytes": _bytes,
    "~decimal": _decimal,
    "~complex": lambda data: complex(*_numbers(data, float, 2)),
    "~uuid": lambda data: uuid.UUID(hex=_text(data)),
    "~datetime": lambda data: datetime.datetime.fromisoformat(_text(data)),
    "~date": lambda data: datetime.date.fromisoformat(_text(data)),
    "~time": lambda data: datetime.time.fromisoformat(_text(data)),
    "~timedelta": lambda data: datetime.timedelta(*_numbers(data, int, 3)),
    "~array": _array,
    "~table": _table,
}
# From inside no integer comes that Python would refuse to print: whoever shows it on the host would fail.
_OWN_READERS: _Readers = {**_READERS, "~int": lambda data: int(_text(data), 16)}
_INSIDE_READERS: _Readers = {
    **_OWN_READERS,
    "~array": lambda data: unpacked(_array(data)),
    "~table": lambda data: unpacked(_table(data)),
}


def _decoder(readers: _Readers) -> json.JSONDecoder:
    def read(found: dict[str, Any]) -> Any:
        if len(found) != 1:
            return found
        ((tag, data),) = found.items()
        if tag[:1] != "~":
            return found
        reader = readers.get(tag)
        if reader is None:
            raise ValueError(f"unknown form {tag[:40]!r}")
        try:
            return reader(data)
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ValueError(f"no {tag[1:]}: {str(error)[:100]}") from None

    return json.JSONDecoder(object_hook=read)


_PLAIN = json.JSONDecoder()
_HOSTILE, _OWN, _INSIDE = _decoder(_READERS), _decoder(_OWN_READERS), _decoder(_INSIDE_READERS)
