"""The source of functions and classes, and what it needs that it does not bring along."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import symtable
import sys
from collections.abc import Iterator
from textwrap import dedent
from typing import Any, cast  # Any: anything has a source, or none

_GUARD = re.compile(r"is_\w+_available")
"""Asked before an import that a program can do without."""


def get_source(obj: Any) -> str:
    """The source of a class or function, also of one that was written in a notebook.

    Raises:
        TypeError: it is neither.
        OSError: there is no source.
        ValueError: a notebook is open, and no cell of it has the source.
    """
    return dedent(_source(obj)).strip()


def definition(obj: Any) -> tuple[str, ast.stmt]:
    """The source of a class or function, and where it stands in it. No line is moved: it may be a part of a string.

    Raises:
        OSError: there is no source.
        ValueError: a notebook is open, and no cell of it has the source.
    """
    source = _source(obj)
    if not source[:1].isspace():
        return source, ast.parse(source).body[0]
    source = f"if True:\n{source}"
    return source, cast("ast.If", ast.parse(source).body[0]).body[0]


def moved(source: str, node: ast.AST, lines: range, column: int) -> str:
    """Lines of a statement that begins at another column. Those inside of strings stay as they are."""
    shift = column - cast("ast.stmt", node).col_offset
    held = _in_strings(node)
    all_lines = source.splitlines()
    out: list[str] = []
    for number in lines:
        line = all_lines[number - 1]
        if number in held or not line.strip():
            out.append(line)
        elif shift >= 0:
            out.append(" " * shift + line)
        else:
            out.append(line[min(-shift, len(line) - len(line.lstrip())) :])
    return "\n".join(out)


def first_line(node: ast.stmt) -> int:
    """Of a statement with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def _in_strings(node: ast.AST) -> set[int]:
    """The lines that are parts of strings. Docstrings may move."""
    held: set[int] = set()
    docstrings = {id(one.value) for body in _bodies(node) if isinstance(one := body[0], ast.Expr)}
    for below in ast.walk(node):
        if not isinstance(below, ast.JoinedStr | ast.Constant) or id(below) in docstrings:
            continue
        if isinstance(below, ast.JoinedStr) or isinstance(below.value, str | bytes):
            held.update(range(below.lineno + 1, (below.end_lineno or below.lineno) + 1))
    return held


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for below in ast.walk(node):
        if isinstance(below, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield below.body


def _source(obj: Any) -> str:
    if not (isinstance(obj, type) or callable(obj)):
        raise TypeError(f"Expected class or callable, got {type(obj)}")
    known = getattr(obj, "__source__", None)
    if isinstance(known, str):
        return known
    try:
        return inspect.getsource(obj)
    except (OSError, TypeError) as error:
        cells = _cells()
        if cells is None:
            raise OSError(f"there is no source of {getattr(obj, '__name__', obj)!r}: {error}") from error
        return _in_cells(cells, obj.__name__)


def get_imports(code: str) -> list[str]:
    """The packages that a text imports, wherever in it; without relative ones and those it can do without."""
    return list(dict.fromkeys(name.split(".")[0] for name in _imported(ast.parse(dedent(code)))))


def unknown_names(code: str) -> list[str]:
    """The names that a module of this text would look up in vain."""
    top = symtable.symtable(code, "<tool>", "exec")
    defined = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    known = {*defined, *dir(builtins), "__name__", "__file__"}
    found = {one.get_name() for one in top.get_symbols() if one.is_referenced()}
    for scope in _scopes(top):
        found |= {one.get_name() for one in scope.get_symbols() if one.is_global() and one.is_referenced()}
    return sorted(found - known)


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for below in table.get_children():
        yield below
        yield from _scopes(below)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Try):
        return  # it says itself what happens without it
    if isinstance(node, ast.If) and any(_GUARD.fullmatch(name) for name in _called(node.test)):
        return
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module
    for below in ast.iter_child_nodes(node):
        yield from _imported(below)


def _called(test: ast.AST) -> Iterator[str]:
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _cells() -> list[str] | None:
    """What was run in the notebook that this program is; None where it is none."""
    notebook: Any = sys.modules.get("IPython")  # in one it is imported
    shell = None if notebook is None else notebook.get_ipython()
    return None if shell is None else [str(cell) for cell in shell.user_ns.get("In", ())]


def _in_cells(cells: list[str], name: str) -> str:
    """The newest definition: cells are run again after they were changed."""
    if not any(cell.strip() for cell in cells):
        raise ValueError("No code cells found in IPython session")
    for cell in reversed(cells):
        try:
            tree = ast.parse(cell)
        except SyntaxError:
            continue  # one with commands of the notebook's
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                return "\n".join(cell.splitlines()[first_line(node) - 1 : node.end_lineno])
    raise ValueError(f"Could not find source code for {name} in IPython history")
