"""What a tool gave, on its way into a snippet: written down so that the snippet can be run again from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from wherry.agents.keeping import keep
from wherry.agents.run import Run
from wherry.errors import ToolError
from wherry.messages import canonical
from wherry.sandbox.values import (
    Array,
    Encoded,
    Table,
    ValueTooLargeError,
    as_array_or_table,
    describe,
    encode,
)
from wherry.tools import as_json, as_text

INLINE_BYTES = 65536
"""A result up to this size is kept in its event."""
LARGEST_VALUE = 4 << 20
"""Bytes of a result that is handed in; more is kept as an artifact, and the snippet gets a handle."""
MAX_CELLS = 100_000
"""Values of arrays (times their dimensions) and data frames that are made lists: each takes hundreds of bytes then."""
_HEAD = 500
NOT_STORED = "too large to be handed in, and it could not be stored: only its head is left"


@dataclass(frozen=True, slots=True)
class Handed:
    """A value in the form that the sandbox takes."""

    value: Encoded
    text: str
    """For people: the value, or what it is."""
    ref: str | None = None
    """The artifact that holds it, if it is too large for its event."""
    handle: bool = False
    """`value` is no more than a handle to that artifact."""


def encoded(value: object) -> Encoded:
    """Any value in the form that the sandbox takes; what is no data as text.

    Raises:
        ValueTooLargeError: it does not fit.
    """
    if isinstance(value, Encoded):  # of a run that is gone on with
        return value
    try:
        return Encoded(encode(value, tuples=True, huge=True, other=as_json))
    except ValueTooLargeError:
        raise
    except Exception:  # noqa: BLE001  # foreign objects may raise anything from any of their methods
        return Encoded(encode(as_json(value), tuples=True, huge=True))


def hand_in(run: Run, value: object) -> Handed:
    """A tool's result, whatever it is; a large one becomes an artifact."""
    described = describe(value)
    text = as_text(value) if described is None else described
    try:
        made = encoded(value)
    except ValueTooLargeError:
        return _handle(run, value, text, *_content(value))
    if described is None and len(text) <= INLINE_BYTES:
        return Handed(made, text)
    data = canonical(made.tree)
    if len(data) <= INLINE_BYTES:
        return Handed(made, text)
    if len(data) > LARGEST_VALUE:
        return _handle(run, value, text, *_content(value))
    kept = keep(run, data, media_type="application/json")
    return Handed(made, text, None if kept is None else kept.ref)


def _content(value: object) -> tuple[bytes, str]:
    held = as_array_or_table(value)
    if isinstance(held, Table):
        return held.csv().encode("utf-8", "replace"), "text/csv"
    if isinstance(held, Array) and isinstance(held.data, bytes):
        return held.npy(), "application/x-npy"
    return canonical(as_json(value)), "application/json"


def _handle(run: Run, value: object, text: str, data: bytes, media_type: str) -> Handed:
    kept = keep(run, data, media_type=media_type)
    ref = None if kept is None else kept.ref
    handle: dict[str, Any] = {"artifact": ref, "bytes": len(data), "head": text[:_HEAD]}
    if ref is None:
        handle["note"] = NOT_STORED
    return Handed(Encoded(encode(handle)), text, ref, handle=True)


def taken_out(run: Run, value: Any) -> Any:  # Any: as `Execution.value`
    """A final answer as users get it: small arrays and data frames as lists, large ones as handles to artifacts."""

    def handle(held: Array | Table) -> Any:
        if held.small:
            return _expanded(held)
        data, media_type = _content(held)
        kept = keep(run, data, media_type=media_type)
        if kept is None:
            return _expanded(held) if held.cells <= MAX_CELLS else held.describe()
        return {"artifact": kept.ref, "bytes": kept.bytes, "media_type": media_type, "head": held.describe()}

    return _replaced(value, handle)


def as_lists(value: Any) -> Any:  # Any: as a `ToolHandler` gets it
    """Arguments as tools take them: an array is lists, a data frame a list of rows.

    Raises:
        ToolError: they would come to more than `MAX_CELLS`.
    """
    room = MAX_CELLS

    def lists(held: Array | Table) -> Any:
        nonlocal room
        room -= held.cells
        if room < 0:
            what = (
                f"an array of shape {held.shape}" if isinstance(held, Array) else f"a data frame of {len(held):,} rows"
            )
            raise ToolError(
                f"{what} cannot be passed to a tool: arrays and data frames become lists, of at most {MAX_CELLS:,} "
                "values together; pass a smaller piece, or write it to a file"
            )
        return _expanded(held)

    return _replaced(value, lists)


def _expanded(held: Array | Table) -> Any:  # Any: lists of lists, or of objects
    return held.tolist() if isinstance(held, Array) else held.rows()


def _replaced(value: Any, form: Callable[[Array | Table], Any]) -> Any:
    if isinstance(value, Array | Table):
        return form(value)
    if isinstance(value, dict):
        return {key: _replaced(item, form) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_replaced(item, form) for item in cast("list[Any]", value)]
    return value
