"""What went wrong, for a model to mend: the snippet's own frames with their lines, and names that come close.

A close name is suggested in the message and never used in silence.
"""

from __future__ import annotations

import builtins
import difflib
import linecache
import sys
from types import TracebackType

PREFIX = "<snippet "
_MAX_FRAMES = 8
_MAX_TEXT = 4000
_MAX_MESSAGE = 1500


def describe(error: BaseException, *, packages: tuple[str, ...]) -> str:
    """The error as text. Runs code of the snippet's (`__str__`), so the caller must be able to stop it.

    Args:
        packages: modules beyond the standard library that can be imported here.
    """
    lines: list[str] = []
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(PREFIX):
        lines += _syntax(error)
        message = f"{type(error).__name__}: {error.msg}"
    else:
        lines += _frames(error.__traceback__)
        message = _headline(error) + _hint(error, packages)
    cause = error.__cause__
    if cause is not None:
        lines.append(f"caused by {_headline(cause)}")
    text = "\n".join([*lines, message])
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]}\n...\n{text[-_MAX_TEXT // 2 :]}"


def _headline(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str.__str__(str(error))
    except MemoryError:
        text = ""
    except Exception as inner:  # noqa: BLE001  # a snippet's class may raise anything
        text = f"<its text cannot be shown: {type(inner).__name__}>"
    if len(text) > _MAX_MESSAGE:
        text = f"{text[:_MAX_MESSAGE]}... ({len(text):,} characters)"
    return f"{name}: {text}" if text else name


def _frames(trace: TracebackType | None) -> list[str]:
    own: list[tuple[str, int, str]] = []
    inner = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(PREFIX):
            own.append((code.co_filename, trace.tb_lineno, code.co_name))
            inner = ""
        elif own:
            module = trace.tb_frame.f_globals.get("__name__", "?")
            inner = "" if str(module).startswith("inside") else f"{module}.{code.co_name}"
        trace = trace.tb_next
    if not own:
        return []
    lines = ["Traceback (most recent call last):"]
    if len(own) > _MAX_FRAMES:
        lines.append(f"  ... {len(own) - _MAX_FRAMES} calls left out ...")
    current = own[-1][0]
    for filename, number, function in own[-_MAX_FRAMES:]:
        where = "" if filename == current else f" of {filename[1:-1]}"
        scope = "" if function == "<module>" else f", in {function}"
        lines.append(f"  line {number}{where}{scope}:")
        lines.append(f"  -> {number} | {linecache.getline(filename, number).rstrip()}")
    if inner:
        lines.append(f"  raised in {inner}")
    return lines


def _syntax(error: SyntaxError) -> list[str]:
    text = (error.text or "").rstrip("\n")
    lines = [f"  line {error.lineno}:", f"  -> {error.lineno} | {text}"]
    if error.offset:
        lines.append(" " * (len(f"  -> {error.lineno} | ") + error.offset - 1) + "^")
    return lines


def _hint(error: BaseException, packages: tuple[str, ...]) -> str:
    if isinstance(error, NameError) and error.name:
        return _close(error.name, _visible_names(error))
    if isinstance(error, AttributeError) and error.name:
        return _close(error.name, dir(error.obj))
    if isinstance(error, ModuleNotFoundError) and error.name:
        there = f"the standard library and {', '.join(packages)}" if packages else "the standard library"
        return f". Only {there} can be imported here" + _close(error.name, [*packages, *sys.stdlib_module_names])
    return ""


def _visible_names(error: BaseException) -> list[str]:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    names = list(vars(builtins))
    if trace is not None:
        names = [*trace.tb_frame.f_locals, *trace.tb_frame.f_globals, *names]
    return names


def _close(name: str, names: list[str]) -> str:
    known = dict.fromkeys(other for other in names if not other.startswith("_") and other != name)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    return f". Did you mean {' or '.join(repr(other) for other in close)}?" if close else ""
