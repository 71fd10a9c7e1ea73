"""JSON Schema without what a model does not need to read: every schema is paid for with each request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast  # Any: JSON Schema

Schema = dict[str, Any]

_MAPS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
"""Keywords whose value maps names to schemas: a key in there is a name, not a keyword."""
_VERBATIM = frozenset({"default", "const", "enum", "examples", "required"})
"""Keywords whose value is data, not a schema."""
INLINE = 400
"""Characters of a definition that is written out again at each use; a larger one stays shared."""


def compact(schema: Mapping[str, Any]) -> Schema:
    """The same schema without generated titles, with references written out where that is safe and shorter.

    A definition is written out in place of its reference when it is used once or is short, and does not lead back to
    itself. Definitions that nothing refers to any more are dropped.
    """
    bare = cast("Schema", _untitled(dict(schema)))
    definitions = cast("dict[str, Schema]", bare.pop("$defs", {}))
    if not definitions:
        return bare
    everything = json.dumps([bare, definitions], default=str)
    inline = {
        name: body
        for name, body in definitions.items()
        if (everything.count(f'"#/$defs/{name}"') == 1 or len(json.dumps(body, default=str)) <= INLINE)
        and not _reaches(name, name, definitions, set())
    }
    out = cast("Schema", _inlined(bare, inline))
    kept = {name: _inlined(body, inline) for name, body in definitions.items() if name not in inline}
    if kept:
        out["$defs"] = kept
    return out


def resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `$ref` of `schema` points to within `root`, else `schema` itself."""
    name = _reference(schema)
    found = None if name is None else root.get("$defs", {}).get(name)
    return schema if found is None else cast("Mapping[str, Any]", found)


def _untitled(node: object) -> object:
    if isinstance(node, list):
        return [_untitled(item) for item in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    out: Schema = {}
    for key, value in cast("Schema", node).items():
        if key == "title" and isinstance(value, str):
            continue
        if key in _VERBATIM:
            out[key] = value
        elif key in _MAPS and isinstance(value, dict):
            out[key] = {name: _untitled(item) for name, item in cast("Schema", value).items()}
        else:
            out[key] = _untitled(value)
    return out


def _reference(node: Mapping[str, Any]) -> str | None:
    reference = node.get("$ref")
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else None


def _references(node: object) -> set[str]:
    if isinstance(node, list):
        return {name for item in cast("list[object]", node) for name in _references(item)}
    if not isinstance(node, dict):
        return set()
    found = {name for item in cast("Schema", node).values() for name in _references(item)}
    name = _reference(cast("Schema", node))
    return found if name is None else found | {name}


def _reaches(start: str, goal: str, definitions: Mapping[str, Schema], seen: set[str]) -> bool:
    for name in _references(definitions.get(start, {})):
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            if _reaches(name, goal, definitions, seen):
                return True
    return False


def _inlined(node: object, inline: Mapping[str, Schema]) -> object:
    if isinstance(node, list):
        return [_inlined(item, inline) for item in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    schema = cast("Schema", node)
    name = _reference(schema)
    if name is not None and name in inline:
        # What stands beside the reference, such as the argument's own description, is nearer than the type's.
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _inlined({**inline[name], **beside}, inline)
    return {key: value if key in _VERBATIM else _inlined(value, inline) for key, value in schema.items()}
