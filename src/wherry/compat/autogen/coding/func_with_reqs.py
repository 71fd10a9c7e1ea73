"""Functions of a program that code of models may import, with the packages that they need."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar  # Any: whatever functions take and give

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Alias:
    """`import name as alias`."""

    name: str
    alias: str


@dataclass(frozen=True)
class ImportFromModule:
    """`from module import ...`."""

    module: str
    imports: Sequence[str | Alias]


Import: TypeAlias = "str | ImportFromModule | Alias"


@dataclass
class FunctionWithRequirementsStr:
    """The text of a function, with what it needs. It is read, never run here.

    Raises:
        ValueError: the text is no Python, or has not exactly one function.
    """

    func: str
    python_packages: Sequence[str] = ()
    global_imports: Sequence[Import] = ()

    def __post_init__(self) -> None:
        try:
            found = _functions(textwrap.dedent(self.func))
        except SyntaxError as error:
            raise ValueError(f"Could not compile function: {error}") from error
        if len(found) != 1:
            raise ValueError("The string must contain exactly one function")


@dataclass
class FunctionWithRequirements(Generic[T, P]):
    """A function, with what it needs; called, it is the function."""

    func: Callable[P, T]
    python_packages: Sequence[str] = field(default_factory=list[str])
    global_imports: Sequence[Import] = field(default_factory=list[Any])

    @classmethod
    def from_callable(
        cls, func: Callable[P, T], python_packages: Sequence[str] = (), global_imports: Sequence[Import] = ()
    ) -> FunctionWithRequirements[T, P]:
        """Of a function."""
        return cls(func, python_packages, global_imports)

    @staticmethod
    def from_str(
        func: str, python_packages: Sequence[str] = (), global_imports: Sequence[Import] = ()
    ) -> FunctionWithRequirementsStr:
        """Of the text of one."""
        return FunctionWithRequirementsStr(func, python_packages, global_imports)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.func(*args, **kwargs)


Offered: TypeAlias = "FunctionWithRequirements[Any, Any] | FunctionWithRequirementsStr | Callable[..., Any]"
"""What an executor takes as a function."""


def with_requirements(
    python_packages: Sequence[str] = (), global_imports: Sequence[Import] = ()
) -> Callable[[Callable[P, T]], FunctionWithRequirements[T, P]]:
    """Decorator: say which packages a function needs, and what is imported before it."""

    def decorate(function: Callable[P, T]) -> FunctionWithRequirements[T, P]:
        made = FunctionWithRequirements(function, python_packages, global_imports)
        functools.update_wrapper(made, function)
        return made

    return decorate


def to_stub(func: Offered) -> str:
    """A function without its body, as a model is told of it."""
    (node,) = _functions(_source(func))[:1]
    documented = ast.get_docstring(node)
    body: list[ast.stmt] = [ast.Expr(ast.Constant(...))]
    if documented:
        body.insert(0, ast.Expr(ast.Constant(documented)))
    node.body, node.decorator_list = body, []
    return ast.unparse(ast.fix_missing_locations(node))


def module_of(functions: Sequence[Offered]) -> str:
    """The text of a module that has these functions, behind the imports that they need."""
    needed = [one for function in functions for one in getattr(function, "global_imports", ())]
    lines = dict.fromkeys(map(_imported, needed))
    return "\n".join([*lines, *(f"\n\n{_source(function)}" for function in functions)]) + "\n"


def packages_of(functions: Sequence[Offered]) -> list[str]:
    """The packages that they need."""
    needed = (name for function in functions for name in getattr(function, "python_packages", ()))
    return list(dict.fromkeys(needed))


def _imported(one: Import) -> str:
    if isinstance(one, ImportFromModule):
        return f"from {one.module} import {', '.join(map(_named, one.imports))}"
    return f"import {_named(one)}"


def _named(one: str | Alias) -> str:
    return one if isinstance(one, str) else f"{one.name} as {one.alias}"


def _source(function: Offered) -> str:
    """The text of a function without its decorators, which mean nothing where it goes."""
    if isinstance(function, FunctionWithRequirementsStr):
        return textwrap.dedent(function.func).strip()
    inner = function.func if isinstance(function, FunctionWithRequirements) else function
    name = getattr(inner, "__name__", inner)
    try:
        text = textwrap.dedent(inspect.getsource(inner))
    except (OSError, TypeError) as error:
        raise ValueError(f"the text of {name!r} is in no file: give it by FunctionWithRequirements.from_str") from error
    found = _functions(text)
    if not found:
        raise ValueError(f"{name!r} is no function written with `def`")
    return "\n".join(text.splitlines()[found[0].lineno - 1 : found[0].end_lineno])


def _functions(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
