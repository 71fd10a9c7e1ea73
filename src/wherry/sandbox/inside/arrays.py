"""Arrays and data frames without numpy or pandas: their bytes, what they are, and a few first values.

Used by both sides. What comes from inside is checked here and never made into an array by the host; inside, where the
packages are, the same bytes become real arrays and frames. No pickle anywhere.
"""

from __future__ import annotations

import datetime
import importlib
import io
import math
import re
import struct
import sys
from dataclasses import dataclass
from typing import Any

MAX_DIMENSIONS = 8
MAX_EMPTY = 1_000_000
"""What the other dimensions of an array without elements may come to: as lists they would be made one by one."""
SMALL = 1000
"""Elements up to which an array or a data frame is shown, or handed on, as lists."""
_HEAD = 10
_ROWS = 5
_FORMATS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d", "c8": "f", "c16": "d",
}  # fmt: skip
_TIME = re.compile(r"<([mM])8\[(ns|us|ms|s|m|h|D)\]")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "D": 86400}
_NAT = -(1 << 63)
_EPOCH = datetime.datetime(1970, 1, 1)  # numpy's times have no zone


@dataclass(frozen=True, slots=True)
class Array:
    """An array of numbers or times by its bytes (little-endian, C order), any other by its items."""

    dtype: str
    """numpy's, as in `<f8`; `object` where `data` has the items."""
    shape: tuple[int, ...]
    data: bytes | list[Any]

    def __post_init__(self) -> None:
        """Raises:
        ValueError: the parts do not fit one another.
        """
        if len(self.shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in self.shape):
            raise ValueError(f"an array of shape {str(self.shape)[:100]}")
        if isinstance(self.data, list):
            size = len(self.data)
        else:
            width = self._width()
            if width is None or len(self.data) % width:
                raise ValueError(f"an array of dtype {self.dtype[:40]!r}")
            size = len(self.data) // width
        if math.prod(self.shape) != size or (size == 0 and math.prod(n or 1 for n in self.shape) > MAX_EMPTY):
            raise ValueError(f"an array of shape {self.shape} has {size:,} elements")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def cells(self) -> int:
        """What it comes to as lists, about; those of an array without elements count too."""
        return math.prod(n or 1 for n in self.shape) * max(len(self.shape), 1)

    @property
    def small(self) -> bool:
        return self.size <= SMALL and self.cells <= SMALL * MAX_DIMENSIONS

    @property
    def name(self) -> str:
        """The data type as people write it: `float64`."""
        kinds = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
        time = _TIME.fullmatch(self.dtype)
        if time:
            return f"{'datetime' if time[1] == 'M' else 'timedelta'}64[{time[2]}]"
        kind, width = self.dtype[1:2], self.dtype[2:]
        return f"{kinds[kind]}{'' if kind == 'b' else int(width) * 8}" if self.dtype[1:] in _FORMATS else self.dtype

    def flat(self, count: int | None = None) -> list[Any]:
        """The first elements as Python values, all without `count`; times as ISO text, missing ones None."""
        count = self.size if count is None else min(count, self.size)
        if isinstance(self.data, list):
            return self.data[:count]
        time = _TIME.fullmatch(self.dtype)
        if time:
            units = struct.unpack_from(f"<{count}q", self.data)
            return [None if unit == _NAT else _time(unit, time[1], time[2]) for unit in units]
        code = _FORMATS[self.dtype[1:]]
        if self.dtype[1] == "c":
            parts = struct.unpack_from(f"<{2 * count}{code}", self.data)
            return [complex(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return list(struct.unpack_from(f"<{count}{code}", self.data))

    def tolist(self) -> Any:  # Any: lists of lists, as deep as the shape is long
        items: list[Any] = self.flat()
        if not self.shape:
            return items[0]
        for axis in range(len(self.shape) - 1, 0, -1):
            size, count = self.shape[axis], math.prod(self.shape[:axis])
            items = [items[n * size : (n + 1) * size] for n in range(count)]
        return items

    def describe(self) -> str:
        head = ", ".join(str(item) for item in self.flat(_HEAD))
        more = ", ..." if self.size > _HEAD else ""
        return f"array of shape {self.shape}, dtype {self.name}, first values: {head}{more}"[:2000]

    def as_data(self) -> Any:  # Any: JSON
        """As lists if it is small; else what it is."""
        return self.tolist() if self.small else self.describe()

    def npy(self) -> bytes:
        """As the bytes of a `.npy` file.

        Raises:
            TypeError: an array of objects has none without pickle.
        """
        if isinstance(self.data, list):
            raise TypeError("an array of objects")
        header = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape}, }}"
        header += " " * (-(len(header) + 11) % 64) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + self.data

    def _width(self) -> int | None:
        if _TIME.fullmatch(self.dtype):
            return 8
        if self.dtype[:1] not in ("<", "|") or self.dtype[1:] not in _FORMATS:
            return None
        return int(self.dtype[2:])


@dataclass(frozen=True, slots=True)
class Table:
    """A data frame: columns of equal length, and the index where it is no plain numbering."""

    names: list[Any]
    columns: list[Array]
    index: Array | None

    def __post_init__(self) -> None:
        """Raises:
        ValueError: the parts do not fit one another.
        """
        everything = [*self.columns, *([self.index] if self.index else [])]
        if len(self.names) != len(self.columns) or len({column.shape for column in everything}) > 1:
            raise ValueError("a data frame whose columns differ in length")
        if any(len(column.shape) != 1 for column in everything):
            raise ValueError("a data frame of more than two dimensions")

    @property
    def size(self) -> int:
        return sum(column.size for column in self.columns)

    @property
    def cells(self) -> int:
        """What it comes to as rows; the index counts too."""
        return max(len(self), 1) * max(len(self.columns) + (self.index is not None), 1)

    @property
    def small(self) -> bool:
        return self.size <= SMALL and self.cells <= 2 * SMALL

    def __len__(self) -> int:
        held = self.columns[0] if self.columns else self.index
        return held.size if held else 0

    def rows(self) -> list[dict[str, Any]]:
        """One object a row; the index, where it is no plain numbering, under `index`."""
        names = [str(name) for name in self.names]
        parts = [column.flat() for column in self.columns]
        if self.index is not None and "index" not in names:
            names, parts = ["index", *names], [self.index.flat(), *parts]
        return [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]

    def as_data(self) -> Any:  # Any: JSON
        """As a list of rows if it is small; else what it is."""
        return self.rows() if self.small else self.describe()

    def csv(self, count: int | None = None) -> str:
        import csv  # few values are data frames

        parts = [column.flat(count) for column in self.columns]
        names = [str(name) for name in self.names]
        if self.index is not None:
            names, parts = ["", *names], [self.index.flat(count), *parts]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*parts, strict=True))
        return out.getvalue()

    def describe(self, rows: int | None = None) -> str:
        """Args:
        rows: that the whole has, if this is its head.
        """
        kinds = ", ".join(f"{name} ({column.name})" for name, column in zip(self.names, self.columns, strict=True))
        size = f"{len(self) if rows is None else rows:,} rows and {len(self.names)} columns"
        return f"data frame of {size}: {kinds}; first rows:\n{self.csv(_ROWS)}"[:3000]


def packed(value: Any, items: Any) -> Array | Table | None:  # Any: numpy's and pandas' own
    """An array, series or data frame as one of the records above; None if it is none of them.

    Args:
        value: anything.
        items: makes wire values of a list of Python values.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if type(value) is numpy.ndarray:
        if value.ndim > MAX_DIMENSIONS:
            return None  # it goes as lists
        return _array(numpy, value, items)
    pandas = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):  # it may be half imported
        return None
    if isinstance(value, pandas.Index):
        return _column(numpy, value, items)
    if isinstance(value, pandas.Series):
        value = value.to_frame("value" if value.name is None else value.name)
    if not isinstance(value, pandas.DataFrame):
        return None
    plain = type(value.index) is pandas.RangeIndex and value.index.equals(pandas.RangeIndex(len(value)))
    index = None if plain else _column(numpy, value.index, items)
    columns = [_column(numpy, value.iloc[:, n], items) for n in range(value.shape[1])]
    return Table(items(list(value.columns)), columns, index)


def unpacked(held: Array | Table) -> Any:
    """A real array or frame where the packages are; else lists, and a list of rows."""
    if isinstance(held, Array):
        return _numpy_array(held)
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        return held.rows()
    columns = {n: _numpy_array(column) for n, column in enumerate(held.columns)}
    index = None if held.index is None else _numpy_array(held.index)
    frame = pandas.DataFrame(columns, index=index)
    frame.columns = held.names
    return frame


def _numpy_array(held: Array) -> Any:
    try:
        numpy: Any = importlib.import_module("numpy")
    except ImportError:
        return held.tolist()
    if isinstance(held.data, bytes):
        return numpy.frombuffer(held.data, dtype=held.dtype).reshape(held.shape).copy()
    if held.dtype == "str":
        return numpy.array(held.data, dtype=str).reshape(held.shape)
    array = numpy.empty(len(held.data), dtype=object)
    array[:] = held.data
    return array.reshape(held.shape)


def _array(numpy: Any, value: Any, items: Any) -> Array:
    kind, shape = value.dtype.kind, tuple(value.shape)
    if kind in "fc" and value.dtype.itemsize > (8 if kind == "f" else 16):
        value = value.astype("f8" if kind == "f" else "c16")  # what the machine has beyond that, no other has
    if kind in "biufc":
        plain = numpy.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return Array(plain.dtype.str, shape, plain.tobytes())
    if kind in "mM" and _TIME.fullmatch(value.dtype.newbyteorder("<").str):
        plain = numpy.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return Array(plain.dtype.str, shape, plain.tobytes())
    return Array("str" if kind == "U" else "object", shape, items(value.ravel().tolist()))


def _column(numpy: Any, column: Any, items: Any) -> Array:
    if isinstance(column.dtype, numpy.dtype):
        return _array(numpy, column.to_numpy(), items)
    missing = column.isna()
    plain = [None if gone else item for item, gone in zip(column.tolist(), missing.tolist(), strict=True)]
    return Array("object", (len(plain),), items(plain))


def _time(units: int, kind: str, unit: str) -> str | float:
    seconds = units * _SECONDS[unit]
    if kind == "m":
        return seconds
    try:
        return (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return f"{units} {unit} since 1970"
