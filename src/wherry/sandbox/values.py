"""Values that cross the sandbox's wall, for whoever on the host hands them in or takes them out.

`docs/code-agents.md` says what crosses as what; `inside.encoding` how it is written.
"""

from __future__ import annotations

import sys
from typing import Any

from .inside.arrays import SMALL, Array, Table, packed
from .inside.decoding import restore
from .inside.encoding import MAX_BYTES, MAX_COLLECTED, Encoded, ValueTooLargeError, encode

__all__ = [
    "MAX_BYTES",
    "MAX_COLLECTED",
    "SMALL",
    "Array",
    "Encoded",
    "Table",
    "ValueTooLargeError",
    "as_array_or_table",
    "describe",
    "encode",
    "restore",
]

_HEAD = 10
_ROWS = 5


def as_array_or_table(value: object) -> Array | Table | None:
    """numpy's and pandas' objects, and what comes from inside, as records; None for all else."""
    return value if isinstance(value, Array | Table) else packed(value, list)


def describe(value: object) -> str | None:
    """Shape, types and first values of an array or a data frame; None if it is none. Looks at these values alone."""
    if isinstance(value, Array | Table):
        return value.describe()
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        array: Any = value
        head = Array("object", (min(array.size, _HEAD),), array.ravel()[:_HEAD].tolist()).flat()
        more = ", ..." if array.size > _HEAD else ""
        values = ", ".join(map(str, head))
        return f"array of shape {array.shape}, dtype {array.dtype}, first values: {values}{more}"[:2000]
    if hasattr(value, "iloc") and hasattr(value, "head"):
        held: Any = value
        made = packed(held.head(_ROWS), list)
        if isinstance(made, Table):
            return made.describe(len(held))
    return None
