"""Tools as files of code, in smolagents' own format: it reads what is saved here, and what it saved is read here."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import typing
import warnings
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast  # Any: values of attributes

from wherry.compat.smolagents.source import definition, first_line, get_imports, moved, unknown_names

if TYPE_CHECKING:
    from wherry.compat.smolagents.tools import SimpleTool, Tool

OURS = "wherry.compat.smolagents"
THEIRS = "smolagents"
_HINTS = frozenset(cast("list[str]", typing.__dict__["__all__"]))


def code_of(tool: Tool) -> str:
    """A module that holds the tool.

    Raises:
        ValueError: its constructor wants arguments, or its code needs what it does not bring along.
        OSError: its code is nowhere to be had.
    """
    from wherry.compat.smolagents.tools import SimpleTool

    kind = type(tool)
    if isinstance(read := vars(kind).get("saved_code"), str):
        return read
    if kind is SimpleTool:
        body = _of_function(cast("SimpleTool", tool))
        bases = ["Tool"]
    elif _public(kind):
        return f"from {THEIRS} import {kind.__name__}\n"
    else:
        wanted = _wanted(kind)
        if wanted:
            raise ValueError(
                f"Tool '{tool.name}' cannot be saved: Parameters in __init__ must have default values, found required "
                f"parameters: {', '.join(wanted)}"
            )
        bases = [_base(kind)]
        body = _of_class(kind, bases[0])
    return _complete(tool.name, bases, body)


def as_dict(tool: Tool) -> dict[str, Any]:
    """The tool's name, code, and the packages that it needs."""
    code = code_of(tool)
    needed = {name for name in get_imports(code) if name not in sys.stdlib_module_names} | {THEIRS}
    out: dict[str, Any] = {"name": tool.name, "code": code, "requirements": sorted(needed)}
    if tool.output_schema is not None:
        out["output_schema"] = tool.output_schema
    return out


def write(tool: Tool, folder: str | Path, name: str, *, with_requirements: bool) -> None:
    """The tool's code into a file, and what it needs beside it."""
    saved = as_dict(tool)
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    (where / f"{name}.py").write_text(saved["code"], encoding="utf-8")
    if with_requirements:
        (where / "requirements.txt").write_text("".join(f"{one}\n" for one in saved["requirements"]), encoding="utf-8")


def tool_of(code: str, options: Mapping[str, Any]) -> Tool:
    """The tool that a module of this text holds. The text is run, with all rights of this program.

    Raises:
        ValueError: it holds none.
    """
    from wherry.compat.smolagents.tools import Tool

    module = ModuleType(f"saved_tool_{sha256(code.encode()).hexdigest()[:12]}")
    file = f"<{module.__name__}>"
    # Tracebacks show its lines, and it can be saved again.
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    exec(compile(_with_ours(ast.parse(code)), file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - asked for
    held = list(vars(module).values())
    kinds = [one for one in held if isinstance(one, type) and issubclass(one, Tool) and one is not Tool]
    own = [one for one in kinds if one.__module__ == module.__name__]
    last = [one for one in own if not any(other is not one and issubclass(other, one) for other in own)]
    for kind in last or kinds:
        if isinstance(cast("object", kind.inputs), str):  # as older versions wrote it
            kind.inputs = ast.literal_eval(cast("str", kind.inputs))
        if own:
            cast("Any", kind).saved_code = code
        return kind(**options)
    for one in held:
        if isinstance(one, Tool):
            return one
    raise ValueError("No Tool subclass found in the code.")


def _public(kind: type) -> bool:
    """Whether it is one of the tools that come with this package."""
    from wherry.compat import smolagents

    return kind.__module__.startswith(f"{OURS}.") and getattr(smolagents, kind.__name__, None) is kind


def _wanted(kind: type) -> list[str]:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _base(kind: type) -> str:
    from wherry.compat.smolagents.tools import Tool

    for base in kind.__mro__[1:]:
        if base is Tool or _public(base):
            return base.__name__
        if issubclass(base, Tool):
            break
    raise ValueError(f"the tool {kind.__name__} cannot be saved: its base class is another tool of this program")


def _of_class(kind: type, base: str) -> str:
    """The class with the values that its attributes have: they may have been computed."""
    source, node = definition(kind)
    if not isinstance(node, ast.ClassDef):
        raise OSError(f"the tool {kind.__name__} cannot be saved: its source is no class")
    parts: list[str] = []
    told = first_line(node.body[0])
    for statement in node.body:
        end = (statement.end_lineno or statement.lineno) + 1
        name = _assigned(statement)
        if name is not None and _is_literal(value := vars(kind).get(name)):
            before = range(told, first_line(statement))
            parts += [moved(source, statement, before, 4)] * bool(before) + [f"    {name} = {value!r}"]
        else:
            parts.append(moved(source, statement, range(told, end), 4))
        told = end
    return f"class {node.name}({base}):\n" + "\n".join(parts) + "\n"


def _of_function(tool: SimpleTool) -> str:
    """The function as the `forward` of a class."""
    source, node = definition(tool.function)
    if not isinstance(node, ast.FunctionDef):
        raise OSError(f"the tool {tool.name} cannot be saved: its source is no plain function")
    others = [ast.unparse(one) for one in node.decorator_list if ast.unparse(one).split(".")[-1] != "tool"]
    if others:
        warnings.warn(
            f"Function '{node.name}' has decorators other than @tool, which are not saved: {', '.join(others)}",
            UserWarning,
            stacklevel=5,
        )
    taken = _one_line(source, node) or ast.unparse(node.args)
    gives = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    head = [
        "class SimpleTool(Tool):",
        f"    name = {tool.name!r}",
        f"    description = {tool.description!r}",
        f"    inputs = {tool.inputs!r}",
        f"    output_type = {tool.output_type!r}",
    ]
    if tool.output_schema is not None:
        head.append(f"    output_schema = {tool.output_schema!r}")
    first = node.body[0]
    if first.lineno == node.lineno:
        body = "\n".join(" " * 8 + ast.unparse(one) for one in node.body)
    else:
        body = moved(source, node, range(first.lineno, (node.end_lineno or node.lineno) + 1), 4)
    return "\n".join([*head, "", f"    def forward(self{', ' if taken else ''}{taken}){gives}:", body, ""])


def _one_line(source: str, node: ast.FunctionDef) -> str:
    """The parameters as they were written, where they fit into one line."""
    arguments = node.args
    nodes = [*arguments.args, *arguments.defaults]
    special = arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs
    if not nodes or special or any(one.end_lineno != node.lineno for one in nodes):
        return ""
    # Columns count bytes.
    line = source.splitlines()[node.lineno - 1].encode()
    return line[min(one.col_offset for one in nodes) : max(one.end_col_offset or 0 for one in nodes)].decode()


def _complete(name: str, bases: list[str], body: str) -> str:
    """With the imports that it needs; all else it has to bring along."""
    body = f"from {THEIRS} import {', '.join(bases)}\n\n\n{body}"
    hints = sorted(one for one in unknown_names(body) if one in _HINTS)
    code = f"from typing import {', '.join(dict.fromkeys(['Any', 'Optional', *hints]))}\n\n{body}"
    if missing := unknown_names(code):
        said = "\n".join(f"- Name '{one}' is undefined: import or define it where it is used" for one in missing)
        raise ValueError(f"Tool '{name}' cannot be saved, for its code needs what stands outside of it:\n{said}")
    return code


def _assigned(statement: ast.stmt) -> str | None:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None


def _is_literal(value: object) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _with_ours(tree: ast.Module) -> ast.Module:
    """A module that imports from smolagents, with this package in its place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and _is_theirs(node.module):
            node.module = f"{OURS}{(node.module or '').removeprefix(THEIRS)}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_theirs(alias.name):
                    below = alias.name.removeprefix(THEIRS)
                    alias.asname = alias.asname or THEIRS
                    alias.name = OURS + (below if alias.asname != THEIRS else "")
    return tree


def _is_theirs(module: str | None) -> bool:
    return module is not None and (module == THEIRS or module.startswith(f"{THEIRS}."))
