"""A tool as one line of Python, for a code agent's prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, cast  # Any: JSON Schema

from wherry.messages import ToolSchema
from wherry.tools.compact import resolve

MAX_DESCRIPTION = 300
"""Characters of the description's first paragraph that go into the line."""
MAX_ARGUMENT = 160
"""Characters of one argument's description."""
_DEPTH = 4
"""Levels of a type that are written out: `dict[str, list[...]]`."""
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def signature(schema: ToolSchema) -> str:
    """The tool as a Python stub on one line, as short as it can be said.

    Parameters with types and defaults, the first paragraph of the description, and what the arguments mean where that
    is said:

        def to_fahrenheit(celsius: float) -> float: \"\"\"Convert a temperature. celsius: Degrees Celsius.\"\"\"

    The line is valid Python whatever the schema and the texts in it. An argument whose name is no identifier is
    described in the text, with the way to pass it.
    """
    properties = cast("Mapping[str, Mapping[str, Any]]", schema.parameters.get("properties", {}))
    required = frozenset(cast("list[str]", schema.parameters.get("required", ())))
    parameters: list[str] = []
    notes: list[str] = []
    optional_seen = star = False
    for name, body in properties.items():
        text = _line(body.get("description"), MAX_ARGUMENT)
        kind = _type(body, schema.parameters, _DEPTH)
        if not name.isidentifier() or iskeyword(name):
            quoted = json.dumps(name)
            notes.append(f"{name} ({kind}; pass **{{{quoted}: ...}}): {text}".rstrip(": "))
            continue
        if name in required:
            if optional_seen and not star:
                parameters.append("*")  # Python takes no required parameter after an optional one without it
                star = True
            parameters.append(f"{name}: {kind}")
        else:
            optional_seen = True
            parameters.append(f"{name}: {kind} = {_default(body)}")
        if text:
            notes.append(f"{name}: {text}")
    result = "" if not schema.returns else f" -> {_type(schema.returns, schema.returns, _DEPTH)}"
    words = " ".join(filter(None, [_line(schema.description.strip().split("\n\n")[0], MAX_DESCRIPTION), *notes]))
    return f"def {schema.name}({', '.join(parameters)}){result}: {_docstring(words)}"


def _line(text: object, limit: int) -> str:
    if not isinstance(text, str):
        return ""
    words = " ".join(text.split())
    if len(words) > limit:
        words = words[: limit - 1].rsplit(" ", 1)[0] + "…"
    return words if not words or words[-1] in ".!?…:;" else f"{words}."


def _docstring(text: str) -> str:
    safe = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", text).replace("\\", "\\\\").replace('"""', "'''")
    if safe.endswith('"'):
        safe += " "
    return f'"""{safe.encode("utf-8", "replace").decode()}"""'


def _default(body: Mapping[str, Any]) -> str:
    value = body.get("default")
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else "..."


def _type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    """A JSON Schema as a Python type expression; `Any` for what Python has no short word for."""
    schema = resolve(schema, root)
    if depth == 0:
        return _SCALARS.get(str(schema.get("type")), "Any")
    if "const" in schema:
        return _literal([schema["const"]])
    if isinstance(choices := schema.get("enum"), list):
        return _literal(cast("list[object]", choices))
    for union in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(union), list):
            kinds = [_type(branch, root, depth) for branch in cast("list[Mapping[str, Any]]", branches)]
            return "Any" if "Any" in kinds else " | ".join(dict.fromkeys(kinds))
    if isinstance(parts := schema.get("allOf"), list) and len(cast("list[object]", parts)) == 1:
        return _type(cast("list[Mapping[str, Any]]", parts)[0], root, depth)
    kind = schema.get("type")
    if isinstance(kind, list):
        names = [_type({**schema, "type": one}, root, depth) for one in cast("list[str]", kind)]
        return " | ".join(dict.fromkeys(names)) or "Any"
    if kind == "array":
        return _array(schema, root, depth)
    if kind == "object":
        return _object(schema, root, depth)
    return _SCALARS.get(str(kind), "Any")


def _literal(choices: list[object]) -> str:
    return f"Literal[{', '.join(repr(choice) for choice in choices)}]"


def _array(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    if isinstance(prefix := schema.get("prefixItems"), list):
        items = [_type(item, root, depth - 1) for item in cast("list[Mapping[str, Any]]", prefix)]
        return f"tuple[{', '.join(items)}]" if items else "list"
    items = schema.get("items")
    if not isinstance(items, Mapping) or (inner := _type(cast("Mapping[str, Any]", items), root, depth - 1)) == "Any":
        return "list"
    return f"list[{inner}]"


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    if isinstance(properties := schema.get("properties"), Mapping) and properties:
        # A dict display with types for values: what a model passes or gets is a dict of this shape.
        typed = cast("Mapping[str, Mapping[str, Any]]", properties)
        return "{" + ", ".join(f"{name!r}: {_type(body, root, depth - 1)}" for name, body in typed.items()) + "}"
    values = schema.get("additionalProperties")
    if not isinstance(values, Mapping) or (inner := _type(cast("Mapping[str, Any]", values), root, depth - 1)) == "Any":
        return "dict"
    return f"dict[str, {inner}]"
