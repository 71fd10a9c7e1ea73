"""What a function says of itself: its parameters, their types, their texts.

Read without importing pydantic, so that `@tool` can complain about a missing type hint where the function is written,
and costs next to nothing at import.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, cast, get_type_hints

from wherry.errors import ConfigurationError

EMPTY = inspect.Parameter.empty
_SECTION = re.compile(r"(Args|Arguments|Parameters|Params|Returns|Raises|Yields|Examples?):\s*\n")
_PACKAGE = __name__.partition(".")[0] + "."


@dataclass(frozen=True, slots=True)
class Documentation:
    """A docstring, taken apart."""

    description: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    returns: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a tool's function."""

    name: str
    hint: object
    """Its type, resolved."""
    default: object = EMPTY
    positional_only: bool = False

    @property
    def required(self) -> bool:
        return self.default is EMPTY


def documentation(docstring: str | None) -> Documentation:
    """A docstring taken apart; Google style, or any other that `docstring_parser` knows.

    A docstring that cannot be parsed is a description as a whole: a strange docstring is no reason to refuse a tool.
    """
    if not docstring or not docstring.strip():
        return Documentation()
    from docstring_parser import ParseError, parse

    text = inspect.cleandoc(docstring)
    headless = _SECTION.match(text) is not None
    try:
        # docstring_parser 0.18 takes `Args:` in the first line for the description.
        parsed = parse(f"-\n\n{text}" if headless else text)
    except ParseError:
        return Documentation(text)
    paragraphs = [None if headless else parsed.short_description, parsed.long_description]
    description = "\n\n".join(filter(None, paragraphs))
    arguments = {one.arg_name: (one.description or "").strip() for one in parsed.params}
    returns = (parsed.returns.description or "").strip() if parsed.returns else ""
    return Documentation(description.strip(), arguments, returns)


def underlying(function: Callable[..., object]) -> Callable[..., object]:
    """The function that holds the hints and the docstring: under `partial`, bound methods, callable objects."""
    while isinstance(function, partial):
        function = cast("Callable[..., object]", function.func)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    call = getattr(type(function), "__call__", None)  # noqa: B004  its function is wanted, not whether it has one
    return call if inspect.isfunction(call) else function


def parameters_of(function: Callable[..., object], *, name: str, untyped: bool = False) -> list[Parameter]:
    """The parameters that a model gives.

    What `functools.partial` has bound by keyword is left out: it is the program's, not the model's.

    Args:
        name: The tool's name, for messages.
        untyped: Whether parameters without a type hint are fine (they take anything), as in a lambda.

    Raises:
        ConfigurationError: A parameter has no type hint, or one that cannot be found, or is `*args` or `**kwargs`.
    """
    wanted = check_parameters(function, name=name, untyped=untyped)
    hints = _resolved(function, [one.name for one in wanted], name=name)
    return [
        Parameter(
            one.name,
            hints.get(one.name, Any),
            default=one.default,
            positional_only=one.kind is inspect.Parameter.POSITIONAL_ONLY,
        )
        for one in wanted
    ]


def check_parameters(function: Callable[..., object], *, name: str, untyped: bool) -> list[inspect.Parameter]:
    """The parameters that a model gives, with their annotations as they are written.

    Raises:
        ConfigurationError: As `parameters_of`, but for types that cannot be found (yet).
    """
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"tool `{name}`: Python knows no signature of {function!r}", hint="wrap it in a function with type hints"
        ) from error
    bound = _bound_keywords(function)
    wanted = [one for key, one in found.items() if key not in bound]
    for one in wanted:
        _check(one, name=name, untyped=untyped)
    return wanted


def return_hint(function: Callable[..., object]) -> object:
    """The type that the function says it returns; `EMPTY` where it says nothing that can be found out."""
    raw = getattr(underlying(function), "__annotations__", {})
    if "return" not in raw:
        return EMPTY
    try:
        return _evaluate(function, "return")
    except Exception:  # noqa: BLE001  an annotation is any expression; without this one a tool still works
        return EMPTY


def _bound_keywords(function: Callable[..., object]) -> set[str]:
    bound: set[str] = set()
    while isinstance(function, partial):
        bound |= set(function.keywords)
        function = cast("Callable[..., object]", function.func)
    return bound


def _check(parameter: inspect.Parameter, *, name: str, untyped: bool) -> None:
    key = parameter.name
    if parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
        raise ConfigurationError(
            f"tool `{name}`: a model cannot be told what `{stars}{key}` takes",
            hint="name every parameter; for a list use `items: list[...]`, and a decorator needs `functools.wraps`",
        )
    if parameter.annotation is EMPTY and not untyped:
        if key in {"self", "cls"}:
            raise ConfigurationError(
                f"tool `{name}`: it is a method that is not bound to an object",
                hint=f"make the tool of the bound method: tool(thing.{name})",
            )
        raise ConfigurationError(
            f"tool `{name}`: parameter `{key}` has no type hint", hint=f"write `{key}: str`, or whatever type it takes"
        )
    if type(parameter.default).__name__ == "FieldInfo":
        raise ConfigurationError(
            f"tool `{name}`: parameter `{key}` has a pydantic Field as its default",
            hint=f"write `{key}: Annotated[..., Field(...)]`, with a plain default",
        )


def _resolved(function: Callable[..., object], names: list[str], *, name: str) -> dict[str, object]:
    raw = getattr(underlying(function), "__annotations__", {})
    out: dict[str, object] = {}
    for key in names:
        if key not in raw:
            continue
        try:
            out[key] = _evaluate(function, key)
        except Exception as error:
            raise ConfigurationError(
                f"tool `{name}`: the type `{raw[key]}` of parameter `{key}` cannot be found at run time"
                f" ({type(error).__name__}: {error})",
                hint="import or define it at module level, above the tool, and not under TYPE_CHECKING",
            ) from error
    return out


def _evaluate(function: Callable[..., object], key: str) -> object:
    """One annotation of the function, as an object.

    A name that the function's module does not have is looked for in the calling functions of that module: a type that
    is defined next to the tool inside a function.
    """
    holder = inspect.unwrap(underlying(function))
    raw = cast("Mapping[str, object]", getattr(holder, "__annotations__", {}))
    module = cast("dict[str, Any]", getattr(holder, "__globals__", {}))
    one = cast("Any", _Annotated(raw[key]))
    closure = _closure(holder)
    try:
        return get_type_hints(one, module, closure, include_extras=True)["it"]
    except NameError as missing:
        for frame in _frames(module):
            try:
                return get_type_hints(one, module, {**frame.f_locals, **closure}, include_extras=True)["it"]
            except NameError:
                continue
        raise missing  # noqa: TRY201  the frames' own errors say less


class _Annotated:
    """Carries one annotation, for `get_type_hints`, which would stop at the first bad one of a function."""

    def __init__(self, annotation: object) -> None:
        self.__annotations__ = {"it": annotation}


def _closure(function: Callable[..., object]) -> dict[str, Any]:
    """What the function took from the functions around it, type parameters (PEP 695) included."""
    if not inspect.isfunction(function):
        return {}
    out: dict[str, Any] = {one.__name__: one for one in getattr(function, "__type_params__", ())}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            out[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return out


def _frames(module: Mapping[str, Any]) -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_globals is module and not frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            yield frame
        frame = frame.f_back
