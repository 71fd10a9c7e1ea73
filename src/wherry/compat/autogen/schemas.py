"""Functions as models are told of them, and values as they go back to them."""

from __future__ import annotations

import functools
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints  # Any: users' own types

from pydantic import BaseModel, TypeAdapter

from wherry.compat.autogen.messages import Dict

logger = logging.getLogger("wherry.compat.autogen.function_utils")


def get_function_schema(f: Callable[..., Any], *, name: str | None = None, description: str) -> Dict:
    """A function as OpenAI's `tools` have it.

    Parameters are told by `Annotated[type, "what it is"]`.

    Raises:
        TypeError: a parameter has no annotation and no default.
    """
    properties: Dict = {}
    required: list[str] = []
    bare: list[str] = []
    untold: list[str] = []
    hints = _hints(f)
    for key, parameter in inspect.signature(f).parameters.items():
        if key == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if key not in hints:
            (bare if parameter.default is parameter.empty else untold).append(f"'{key}'")
            continue
        properties[key] = _property(hints[key], key, parameter.default)
        if parameter.default is parameter.empty:
            required.append(key)
    called = getattr(f, "__name__", type(f).__name__)
    if "return" not in hints:
        logger.warning(_NO_RETURN.format(called))
    if untold:
        logger.warning(_UNTOLD.format(called, ", ".join(sorted(untold))))
    if bare:
        raise TypeError(
            f"All parameters of the function '{called}' without default values must be annotated. The annotations "
            f"are missing for the following parameters: {', '.join(sorted(bare))}"
        )
    parameters = {"type": "object", "properties": properties, "required": required}
    function = {"description": description, "name": name or called, "parameters": parameters}
    return {"type": "function", "function": function}


_NO_RETURN = (
    "The return type of the function '{}' is not annotated. Although annotating it is optional, the function should "
    "return either a string, a subclass of 'pydantic.BaseModel'."
)
_UNTOLD = "The following parameters of the function '{}' with default values are not annotated: {}."


def _hints(f: Callable[..., Any]) -> Dict:
    inner = inspect.unwrap(f)
    if not inspect.isroutine(inner):
        inner = type(inner).__call__
    return get_type_hints(inner, include_extras=True)


def _property(annotation: Any, name: str, default: Any) -> Dict:
    said = [one for one in get_args(annotation)[1:] if isinstance(one, str)] if is_annotated(annotation) else []
    schema = type2schema(get_args(annotation)[0] if said else annotation)
    out: Dict = {**schema, "description": said[0] if said else schema.get("description", name)}
    if default is not inspect.Parameter.empty and _is_json(default):
        out["default"] = default
    elif isinstance(default, BaseModel):
        out["default"] = default.model_dump()
    return out


def type2schema(t: Any) -> Dict:
    """A type as a JSON Schema."""
    return TypeAdapter[Any](t).json_schema()


def is_annotated(annotation: Any) -> bool:
    """Whether it is a type with words about it."""
    return get_origin(annotation) is Annotated


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def load_basemodels_if_needed(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, given models of pydantic where it wants them and a dict came."""
    try:
        hints = _hints(func)
    except (NameError, TypeError):
        return func
    wanted = {key: model for key, hint in hints.items() if key != "return" and (model := _model(hint)) is not None}
    if not wanted:
        return func

    def loaded(kwargs: Mapping[str, Any]) -> Dict:
        return {
            key: wanted[key].model_validate(value) if key in wanted and isinstance(value, dict) else value
            for key, value in kwargs.items()
        }

    @functools.wraps(func)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **loaded(kwargs))

    @functools.wraps(func)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await func(*args, **loaded(kwargs))

    return coroutine if inspect.iscoroutinefunction(func) else plain


def _model(hint: Any) -> type[BaseModel] | None:
    plain = get_args(hint)[0] if is_annotated(hint) else hint
    return plain if inspect.isclass(plain) and issubclass(plain, BaseModel) else None


def serialize_to_str(x: Any) -> str:
    """A function's value as its caller's model sees it."""
    if isinstance(x, str):
        return x
    if isinstance(x, BaseModel):
        return x.model_dump_json()
    try:
        return json.dumps(x, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(x)
