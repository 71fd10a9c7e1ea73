"""What went wrong, for a model to mend: the snippet's own frames with their lines, and a hint."""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from types import TracebackType

from .compiling import PREFIX
from .hints import hint

_MAX_FRAMES = 8
_MAX_TEXT = 4000
_MAX_MESSAGE = 1500


def describe(error: BaseException, *, packages: tuple[str, ...], tools: Iterable[str]) -> str:
    """The error as text. Runs code of the snippet's (`__str__`), so the caller must be able to stop it.

    Args:
        error: what the snippet raised.
        packages: modules beyond the standard library that can be imported here.
        tools: names of the functions that the host answers.
    """
    lines: list[str] = []
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(PREFIX):
        lines += _syntax(error)
        message = f"{type(error).__name__}: {error.msg}"
    else:
        lines += _frames(error.__traceback__)
        message = _headline(error)
    cause = error.__cause__
    if cause is not None and _headline(cause) != message:
        lines.append(f"caused by {_headline(cause)}")
    message += hint(error, packages=packages, tools=tools)
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
