"""The names that programs import from `autogen.logger.logger_utils`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast  # Any: what programs log


def get_current_ts() -> str:
    """Now, in UTC, as rows have it."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"


def to_dict(obj: Any, exclude: tuple[str, ...] = (), no_recursive: Any = ()) -> Any:
    """A thing as JSON has it, as far as that goes: objects as what they hold, functions as their text.

    Args:
        obj: What.
        exclude: Names that are left out.
        no_recursive: Classes whose objects are told by their text.
    """

    def inner(value: Any) -> Any:
        return str(value) if isinstance(value, no_recursive) else to_dict(value, exclude, no_recursive)

    if obj is None or isinstance(obj, int | float | str):
        return obj
    if callable(obj):
        return _text_of(obj)
    if isinstance(obj, list | tuple):
        return [inner(one) for one in cast("list[Any]", obj)]
    held = _held(obj)
    if held is None:
        return obj
    return {str(key): inner(one) for key, one in held.items() if key not in exclude}


def _held(obj: object) -> Mapping[Any, Any] | None:
    return cast("Mapping[Any, Any]", obj) if isinstance(obj, Mapping) else getattr(obj, "__dict__", None)


def _text_of(function: Any) -> str:
    try:
        return inspect.getsource(function).strip()
    except (OSError, TypeError):  # written in C, or typed at a prompt
        return repr(function)
