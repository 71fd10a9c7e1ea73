"""The arguments of a tool: their JSON Schema, and the check that a call's arguments pass through."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast  # Any: JSON Schema, and values of any type

from wherry.errors import ConfigurationError, ToolArgumentError
from wherry.tools.compact import Schema, compact
from wherry.tools.hints import EMPTY, Documentation, Parameter
from wherry.tools.values import brief

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

MAX_PROBLEMS = 4
"""Problems of one call that a model is told of."""
MAX_VALUE = 80
"""Characters of a wrong value that a model is shown again."""
MAX_MESSAGE = 200
"""Characters of one problem's explanation."""

_JSON_TYPES: Mapping[str, object] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_OPEN_TYPES = frozenset({"any", "image", "audio"})
"""Type names of smolagents that are none of JSON Schema's; they take anything."""
INPUT_TYPES = frozenset(_JSON_TYPES) | _OPEN_TYPES

Validate = Callable[[dict[str, Any]], dict[str, Any]]


class Arguments:
    """What a tool takes: `schema` for the model, `check` for what the model then sends."""

    def __init__(self, tool: str, *, schema: Schema, parameters: Sequence[Parameter], validate: Validate) -> None:
        self.tool = tool
        self.schema = schema
        self.names = tuple(one.name for one in parameters)
        """In the order of positional arguments."""
        self.defaults = {one.name: one.default for one in parameters if not one.required}
        self._validate = validate

    @classmethod
    def of(cls, tool: str, parameters: Sequence[Parameter], docs: Documentation) -> Arguments:
        """From a function's parameters and docstring.

        Raises:
            ConfigurationError: pydantic has no JSON Schema for a parameter's type.
        """
        adapter = _adapter(tool, parameters)
        schema = compact(_described(_json_schema(tool, adapter, parameters), parameters, docs))
        return cls(tool, schema=schema, parameters=parameters, validate=adapter.validate_python)

    @classmethod
    def declared(cls, tool: str, inputs: Mapping[str, Mapping[str, Any]], parameters: Sequence[Parameter]) -> Arguments:
        """From a table of inputs, as smolagents has it: name -> `{"type": ..., "description": ...}`.

        The model is shown the table. Values are checked against the type hint of the function's parameter of that name,
        where it has one, else against the table.

        Raises:
            ConfigurationError: The table is malformed, or does not fit the function.
        """
        by_name = {one.name: one for one in parameters}
        if by_name and set(by_name) != set(inputs):
            raise ConfigurationError(
                f"tool `{tool}`: `inputs` names {_listed(inputs)}, but `forward` takes {_listed(by_name)}",
                hint="give both the same names",
            )
        properties: dict[str, Schema] = {}
        checked: list[Parameter] = []
        for name, body in inputs.items():
            fragment, nullable = _fragment(tool, name, body)
            known = by_name.get(name)
            default = EMPTY if known is None else known.default
            if nullable and default is EMPTY:
                default = None
            if known is not None and known.hint is not Any:
                hint = known.hint
                _agree(tool, name, fragment, hint)
            else:
                hint = _python_type(fragment)
            properties[name] = fragment if default is EMPTY or default is None else {**fragment, "default": default}
            checked.append(Parameter(name, hint if default is not None else _optional(hint), default=default))
        adapter = _adapter(tool, checked)
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if required := [one.name for one in checked if one.required]:
            schema["required"] = required
        return cls(tool, schema=compact(schema), parameters=checked, validate=adapter.validate_python)

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, converted to the types that the function wants.

        Raises:
            ToolArgumentError: They do not fit; the message is for the model.
        """
        from pydantic import ValidationError

        try:
            return self._validate(dict(arguments))
        except ValidationError as error:
            raise ToolArgumentError(self._explained(error)) from error
        except RecursionError as error:
            raise ToolArgumentError(f"`{self.tool}`: the arguments are nested too deeply") from error

    def _explained(self, error: ValidationError) -> str:
        problems = error.errors(include_url=False, include_context=False)
        lines = [self._problem(one["type"], one["loc"], one["msg"], one["input"]) for one in problems[:MAX_PROBLEMS]]
        lines = list(dict.fromkeys(lines))
        if len(problems) > MAX_PROBLEMS:
            lines.append(f"and {len(problems) - MAX_PROBLEMS} more")
        return f"`{self.tool}` was not called: {'; '.join(lines)}"

    def _problem(self, kind: str, place: tuple[int | str, ...], message: str, value: object) -> str:
        where = brief_path(place)
        if kind == "missing":
            return f"argument `{where}` is missing"
        if kind == "extra_forbidden" and len(place) == 1:
            return f"there is no argument `{where}`; it takes {_listed(self.names)}"
        told = message[0].lower() + message[1:MAX_MESSAGE] if message else "is not valid"
        return f"argument `{where}`: {told.removeprefix('input ')}, not {brief(value, MAX_VALUE)}"


def brief_path(place: Sequence[int | str]) -> str:
    """A place within the arguments as Python writes it: `rows[3].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")[:MAX_VALUE] or "(all)"


def return_schema(hint: object, docs: Documentation) -> Schema | None:
    """The JSON Schema of what a tool returns; None where it says nothing, or nothing that JSON can say."""
    if hint is EMPTY or hint is Any:
        return None
    from pydantic import PydanticUserError, TypeAdapter

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(cast("Any", hint))
        schema = compact(adapter.json_schema(mode="serialization"))
    except (PydanticUserError, TypeError, ValueError, NameError, AttributeError):
        return None
    if schema and docs.returns:
        schema.setdefault("description", docs.returns)
    return schema or None


def _adapter(tool: str, parameters: Sequence[Parameter]) -> TypeAdapter[dict[str, Any]]:
    """One validator for all arguments at once.

    A TypedDict, not a model: any name is allowed as a key (`schema`, `_x`, `model_config`), and what the model left out
    stays out, so that the function's own defaults apply.
    """
    import typing_extensions
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    required, optional = cast("Any", typing_extensions.Required), cast("Any", typing_extensions.NotRequired)
    keys = {one.name: required[one.hint] if one.required else optional[one.hint] for one in parameters}
    shape = cast("Any", typing_extensions).TypedDict("Arguments", keys)
    # Small models send 3 where text is wanted; that is no reason for another round.
    shape.__pydantic_config__ = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    try:
        return TypeAdapter(shape)
    except (PydanticUserError, TypeError, NameError, AttributeError) as error:
        raise _undescribable(tool, parameters, error) from error


def _json_schema(tool: str, adapter: TypeAdapter[Any], parameters: Sequence[Parameter]) -> Schema:
    from pydantic import PydanticUserError

    try:
        return adapter.json_schema()
    except (PydanticUserError, TypeError, ValueError) as error:
        raise _undescribable(tool, parameters, error) from error


def _undescribable(tool: str, parameters: Sequence[Parameter], error: Exception) -> ConfigurationError:
    """Says which parameter it was: pydantic names the type only."""
    from pydantic import PydanticUserError, TypeAdapter

    guilty = [one.name for one in parameters]
    for one in parameters:
        try:
            TypeAdapter(cast("Any", one.hint)).json_schema()
        except (PydanticUserError, TypeError, ValueError, NameError, AttributeError) as own:
            guilty, error = [one.name], own
            break
    reason = re.split(r"\n|\. Set `arbitrary", str(error), maxsplit=1)[0]
    return ConfigurationError(
        f"tool `{tool}`: there is no JSON Schema for the type of {_listed(guilty)}: {reason[:MAX_MESSAGE]}",
        hint="use types that JSON can carry: str, int, float, bool, list, dict, Literal, dataclasses, pydantic models",
    )


def _described(schema: Schema, parameters: Sequence[Parameter], docs: Documentation) -> Schema:
    """With the docstring's texts and the defaults."""
    properties = cast("dict[str, Schema]", schema.get("properties", {}))
    described: dict[str, Schema] = {}
    for one in parameters:
        body = dict(properties.get(one.name, {}))
        if text := docs.arguments.get(one.name):
            body.setdefault("description", text)
        if one.default is None:
            body = _without_null(body)  # leaving it out says the same, in fewer tokens
        elif not one.required and (default := _json_default(one.default)) is not None:
            body["default"] = default
        described[one.name] = body
    out: Schema = {"type": "object", "properties": described, "additionalProperties": False}
    if required := [one.name for one in parameters if one.required]:
        out["required"] = required
    if "$defs" in schema:
        out["$defs"] = schema["$defs"]
    return out


def _json_default(value: object) -> object:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return to_jsonable_python(value, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError):
        return None  # it has no JSON form; that the argument is optional says enough


def _without_null(body: Schema) -> Schema:
    branches = body.get("anyOf")
    if not isinstance(branches, list):
        return body
    rest = [branch for branch in cast("list[Schema]", branches) if branch != {"type": "null"}]
    others = {key: value for key, value in body.items() if key != "anyOf"}
    return {**rest[0], **others} if len(rest) == 1 else {**others, "anyOf": rest}


def _fragment(tool: str, name: str, body: object) -> tuple[Schema, bool]:
    """One entry of `inputs` as JSON Schema, and whether it may be left out."""
    if not isinstance(body, Mapping):
        raise ConfigurationError(
            f"tool `{tool}`: `inputs[{name!r}]` is {brief(body, MAX_VALUE)}",
            hint='write {"type": "string", "description": "..."}',
        )
    fragment: Schema = dict(cast("Mapping[str, Any]", body))
    nullable = bool(fragment.pop("nullable", False))
    kinds: object = fragment.get("type")
    named = [kinds] if isinstance(kinds, str) else kinds
    if kinds is None and not ({"anyOf", "enum", "oneOf", "allOf", "const"} & set(fragment)):
        raise ConfigurationError(
            f"tool `{tool}`: `inputs[{name!r}]` has no type", hint=f"one of {_listed(sorted(INPUT_TYPES))}"
        )
    if named is not None and not (isinstance(named, list) and set(cast("list[str]", named)) <= INPUT_TYPES):
        raise ConfigurationError(
            f"tool `{tool}`: `inputs[{name!r}]` has the type {brief(kinds, MAX_VALUE)}",
            hint=f"one of {_listed(sorted(INPUT_TYPES))}",
        )
    if named is not None and set(cast("list[str]", named)) & _OPEN_TYPES:
        del fragment["type"]
    return fragment, nullable


def _python_type(fragment: Schema) -> object:
    from typing import Literal, Union

    literal, union = cast("Any", Literal), cast("Any", Union)
    choices = fragment.get("enum")
    if isinstance(choices, list) and all(isinstance(one, (str, int, bool)) for one in cast("list[object]", choices)):
        return literal[tuple(cast("list[object]", choices))]
    kinds = fragment.get("type")
    if kinds is None:
        return Any
    named = cast("list[str]", [kinds] if isinstance(kinds, str) else kinds)
    return union[tuple(_JSON_TYPES[one] for one in named)]


def _optional(hint: object) -> object:
    from typing import Optional

    return cast("Any", Optional)[hint]


def _agree(tool: str, name: str, fragment: Schema, hint: object) -> None:
    """Two simple types that contradict each other would make every call fail, with no hint at why."""
    declared, python = fragment.get("type"), {one: key for key, one in _JSON_TYPES.items()}.get(hint)
    if not isinstance(declared, str) or python is None or declared == python:
        return
    if {declared, python} != {"integer", "number"}:
        raise ConfigurationError(
            f"tool `{tool}`: `inputs[{name!r}]` says {declared!r}, but `forward` takes `{name}: {_name(hint)}`",
            hint="give both the same type",
        )


def _name(hint: object) -> str:
    return getattr(hint, "__name__", str(hint))


def _listed(names: object) -> str:
    told = [f"`{one}`" for one in cast("Sequence[str]", list(cast("Mapping[str, Any]", names)))]
    return ", ".join(told[:20]) or "no arguments"
