"""From a snippet's text to code that runs: the last expression's value is kept, `await` works at the top.

A tool is a plain function, but models write `await tool(...)`: the `await` is taken out, which is what was meant.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Collection, Mapping
from types import CodeType
from typing import Any

PREFIX = "<snippet "
"""What the file names of snippets begin with."""


def execute(code: str, filename: str, scope: dict[str, Any], tools: Mapping[str, object]) -> object:
    """Run a snippet.

    Returns:
        The value of its last statement if that is an expression, else None.
    """
    tree = ast.parse(code, filename)
    if "await" in code:
        own = _bound_in(tree)
        names = {name for name, tool in tools.items() if scope.get(name) is tool and name not in own}
        tree = _Unawaited(names).visit(tree)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if "await" in code or "async" in code else 0
    last = tree.body[-1] if tree.body else None
    expression: CodeType | None = None
    if isinstance(last, ast.Expr):
        del tree.body[-1]
        expression = compile(ast.Expression(last.value), filename, "eval", flags, dont_inherit=True)
    body = compile(tree, filename, "exec", flags, dont_inherit=True)
    if any(part.co_flags & inspect.CO_COROUTINE for part in (body, expression) if part is not None):
        return _in_loop(body, expression, scope)
    exec(body, scope)  # noqa: S102  # the purpose of all this
    return None if expression is None else eval(expression, scope)  # noqa: S307


def _in_loop(body: CodeType, expression: CodeType | None, scope: dict[str, Any]) -> object:
    import asyncio  # takes 50 ms, and few snippets need it

    async def play() -> object:
        value: object = None
        for part in (body, expression):
            value = None
            if part is not None:
                made: Any = eval(part, scope)  # noqa: S307
                value = await made if part.co_flags & inspect.CO_COROUTINE else made
        return value

    return asyncio.run(play())


def _bound_in(tree: ast.AST) -> set[str]:
    """Names that a snippet gives a meaning of its own somewhere."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name)
    return found


class _Unawaited(ast.NodeTransformer):
    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self._names:
            return call
        return node


def discard(value: object) -> str | None:
    """What to say of a coroutine that nobody ran, which is then closed; None if it is none."""
    if not inspect.iscoroutine(value):
        return None
    with contextlib.suppress(Exception):
        value.close()
    return f"<coroutine {value.__qualname__}, which did not run: write `await {value.__name__}(...)`>"
