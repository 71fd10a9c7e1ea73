"""The names that programs import from `autogen.function_utils`: what a model is told of a function, in steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ForwardRef, Literal, get_args, get_origin  # Any: users' own types

from pydantic import BaseModel

from wherry.compat.autogen.messages import Dict
from wherry.compat.autogen.schemas import (
    get_function_schema,
    is_annotated,
    load_basemodels_if_needed,
    logger,
    serialize_to_str,
    type2schema,
)

__all__ = [
    "Function",
    "Parameters",
    "ToolFunction",
    "get_default_values",
    "get_function_schema",
    "get_load_param_if_needed_function",
    "get_missing_annotations",
    "get_param_annotations",
    "get_parameter_json_schema",
    "get_parameters",
    "get_required_params",
    "get_typed_annotation",
    "get_typed_return_annotation",
    "get_typed_signature",
    "load_basemodels_if_needed",
    "logger",
    "serialize_to_str",
]


class Parameters(BaseModel):
    """What a function takes."""

    type: Literal["object"] = "object"
    properties: dict[str, Dict]
    required: list[str]


class Function(BaseModel):
    """A function as a model is told of it."""

    description: str
    name: str
    parameters: Parameters


class ToolFunction(BaseModel):
    """The same as a tool."""

    type: Literal["function"] = "function"
    function: Function


def get_typed_annotation(annotation: Any, globalns: Mapping[str, Any]) -> Any:
    """A type, where an annotation is the text of one; the text's reference, where its names are not known yet."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(globalns))  # noqa: S307 - a program's own annotation, as typing evaluates it
    except NameError:
        return ForwardRef(annotation)


def get_typed_signature(call: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a function, with types where its annotations are texts."""
    known = _globals(call)
    given = inspect.signature(call).parameters.values()
    return inspect.Signature([one.replace(annotation=get_typed_annotation(one.annotation, known)) for one in given])


def get_typed_return_annotation(call: Callable[..., Any]) -> Any:
    """What a function says it returns; None where it does not say."""
    annotation = inspect.signature(call).return_annotation
    return None if annotation is inspect.Signature.empty else get_typed_annotation(annotation, _globals(call))


def _globals(call: Callable[..., Any]) -> Mapping[str, Any]:
    return getattr(inspect.unwrap(call), "__globals__", {})


def get_param_annotations(typed_signature: inspect.Signature) -> Dict:
    """The annotations of the parameters that have one."""
    given = typed_signature.parameters.items()
    return {key: one.annotation for key, one in given if one.annotation is not one.empty}


def get_required_params(typed_signature: inspect.Signature) -> list[str]:
    """The parameters without a default."""
    return [key for key, one in typed_signature.parameters.items() if one.default is one.empty]


def get_default_values(typed_signature: inspect.Signature) -> Dict:
    """The defaults of the parameters that have one."""
    return {key: one.default for key, one in typed_signature.parameters.items() if one.default is not one.empty}


def get_missing_annotations(typed_signature: inspect.Signature, required: Sequence[str]) -> tuple[set[str], set[str]]:
    """The parameters without an annotation: those of `required`, and the others."""
    bare = {key for key, one in typed_signature.parameters.items() if one.annotation is one.empty}
    return bare & {*required}, bare - {*required}


def get_parameter_json_schema(k: str, v: Any, default_values: Mapping[str, Any]) -> Dict:
    """A parameter as a model is told of it.

    Args:
        k: Its name, which describes it where nothing else does.
        v: Its type, `Annotated` with a text that describes it.
        default_values: Of all parameters.

    Raises:
        ValueError: what the annotation has first is no text.
    """
    schema = dict(type2schema(v))
    if k in default_values:
        schema["default"] = default_values[k]
    said = get_args(v)[1] if is_annotated(v) else k
    if not isinstance(said, str):
        raise ValueError(f"Invalid description {said} for parameter {k}, should be a string.")  # noqa: TRY004 - programs catch it
    schema["description"] = said
    return schema


def get_parameters(
    required: Sequence[str], param_annotations: Mapping[str, Any], default_values: Mapping[str, Any]
) -> Parameters:
    """All parameters as a model is told of them."""
    found = {key: get_parameter_json_schema(key, one, default_values) for key, one in param_annotations.items()}
    return Parameters(properties=found, required=[*required])


def get_load_param_if_needed_function(t: Any) -> Callable[[Dict, type[BaseModel]], BaseModel] | None:
    """What makes a model of pydantic of a dict, where `t` is such a model; else None."""
    plain = get_args(t)[0] if is_annotated(t) else t
    if get_origin(plain) is not None or not inspect.isclass(plain) or not issubclass(plain, BaseModel):
        return None
    return _loaded


def _loaded(v: Dict, t: type[BaseModel]) -> BaseModel:
    return t(**v)
