"""CPython itself, without any wall: what the ratios are to."""

from __future__ import annotations

import ast
import time

import snippets

scope: dict[str, object] = {"tool": lambda: 1}


def run(text: str) -> object:
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "snippet", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "snippet", "eval"), scope) if isinstance(last, ast.Expr) else None


snippets.measure(run, started=time.perf_counter())
