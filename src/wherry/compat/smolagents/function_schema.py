"""A function's inputs as a tool's table of them: from its type hints and its docstring."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints  # Any: hints of any kind

from wherry.tools.hints import documentation

PLAIN: Mapping[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    tuple: "array",
    set: "array",
    dict: "object",
    type(None): "null",
    Any: "any",
}


_CHOICES = re.compile(r"\(choices:\s*(\[[^\[\]]*\])\s*\)\s*$", re.IGNORECASE)
"""What a description may end with: the values that an argument may have, as JSON."""


class TypeHintParsingException(Exception):
    """A parameter, or the result, has no type hint that says what it is."""


class DocstringParsingException(Exception):
    """The docstring does not say what the function or one of its arguments is."""


def fragment(hint: Any) -> dict[str, Any]:
    """A type hint as JSON Schema, in the dialect of tools: one type or a list of types, `nullable`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is None:
        return {"type": _plain(hint)}
    if origin in (Union, types.UnionType):
        return _union(args)
    if origin is Literal:
        out = _union(tuple({type(value) for value in args}))
        return {**out, "enum": [value for value in args if value is not None]}
    if origin in (list, set, frozenset):
        return {"type": "array", "items": fragment(args[0])} if args else {"type": "array"}
    if origin is tuple:
        return {"type": "array"} if ... in args else {"type": "array", "prefixItems": [fragment(one) for one in args]}
    if origin is dict:
        return {"type": "object", "additionalProperties": fragment(args[1])} if len(args) == 2 else {"type": "object"}
    return fragment(origin) if isinstance(origin, type) and origin in PLAIN else {"type": "object"}


def hints_of(function: Callable[..., object]) -> dict[str, Any]:
    """Type hints by parameter; what cannot be looked up is left out."""
    try:
        return get_type_hints(inspect.unwrap(function))
    except Exception:  # noqa: BLE001 - a name that only exists where the function was written
        return {}


def table(function: Callable[..., object]) -> dict[str, dict[str, Any]]:
    """Inputs by name.

    Raises:
        TypeHintParsingException: a parameter has no type hint.
        DocstringParsingException: the docstring does not say what a parameter is.
    """
    name = getattr(function, "__name__", "this")
    doc = inspect.getdoc(function)
    if not doc:
        raise DocstringParsingException(f"Cannot generate JSON schema for {name} because it has no docstring!")
    described, hints = documentation(doc).arguments, hints_of(function)
    out: dict[str, dict[str, Any]] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.annotation is inspect.Parameter.empty:
            raise TypeHintParsingException(f"Argument {parameter.name} is missing a type hint in function {name}")
        if parameter.name not in described:
            raise DocstringParsingException(
                f"Cannot generate JSON schema for {name} because the docstring has no description for the argument "
                f"'{parameter.name}'"
            )
        body = fragment(hints.get(parameter.name, Any))
        body["description"] = described[parameter.name]
        if (choices := _CHOICES.search(body["description"])) is not None:
            body["description"] = body["description"][: choices.start()].rstrip()
            body["enum"] = json.loads(choices[1])
        if parameter.default is not inspect.Parameter.empty:
            body["nullable"] = True
        out[parameter.name] = body
    return out


def returned(function: Callable[..., object]) -> str | None:
    """The type of the result; None without a hint."""
    hints = hints_of(function)
    if "return" not in hints:
        return None
    kind = fragment(hints["return"]).get("type")
    return kind if isinstance(kind, str) else "any"


def type_of(value: object) -> str:
    """The type of an argument's value."""
    return _plain(cast("object", type(value)))


def _plain(hint: object) -> str:
    known = PLAIN.get(hint) if isinstance(hint, type) or hint is Any else None
    if known is not None:
        return known
    if isinstance(hint, type) and any(f"{one.__module__}.{one.__name__}" == "PIL.Image.Image" for one in hint.__mro__):
        return "image"
    return "object"


def _union(args: tuple[Any, ...]) -> dict[str, Any]:
    parts = [fragment(one) for one in args if one is not type(None)]
    if len(parts) == 1:
        out = parts[0]
    elif all(isinstance(part.get("type"), str) and len(part) == 1 for part in parts):
        out = {"type": sorted({part["type"] for part in parts})}
    else:
        out = {"anyOf": parts}
    return {**out, "nullable": True} if type(None) in args else out
