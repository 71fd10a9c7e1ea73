"""The code of a tool, so that a change of it is seen."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any, cast

from wherry.messages import digest
from wherry.tools.hints import underlying


def mark(item: object) -> tuple[object, ...]:
    """What changes when a tool's description or its function's code is replaced in place. Costs next to nothing."""
    function = getattr(item, "forward", item)
    return getattr(item, "description", None), getattr(function, "__code__", None)


def source_of(function: object) -> str | None:
    """The source text of a function or class, without its indentation; None where there is none to be had."""
    try:
        held = underlying(cast("Any", function)) if callable(function) and not isinstance(function, type) else function
        return inspect.cleandoc(f"\n{inspect.getsource(cast('Any', held))}")
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None


def code_digest(function: object, source: str | None) -> str | None:
    """The digest of a function's source, else of its compiled code; None where it has neither, as what is made in C.

    The compiled code's holds for one version of Python.
    """
    if source is not None:
        return digest(source.encode("utf-8", "surrogatepass"))
    code = getattr(underlying(cast("Any", function)), "__code__", None) if callable(function) else None
    return digest("\0".join(_parts(code)).encode("utf-8", "surrogatepass")) if isinstance(code, CodeType) else None


def _parts(code: CodeType) -> Iterator[str]:
    """What the code does, without where it stands: names, constants, instructions."""
    yield from (code.co_code.hex(), *code.co_names, *code.co_varnames, *code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        else:
            # The order of a set differs from process to process.
            held: object = constant
            yield (
                repr(sorted(map(repr, cast("frozenset[object]", held)))) if isinstance(held, frozenset) else repr(held)
            )
