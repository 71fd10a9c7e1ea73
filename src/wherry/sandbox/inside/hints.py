"""What a model may have meant: close names, and ways out of mistakes that models make.

Suggested in the message, never used in silence.
"""

from __future__ import annotations

import builtins
import contextlib
import difflib
import itertools
import linecache
import re
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, cast

from .compiling import PREFIX

_MOST_KEYS = 2000
_WORD = re.compile(r"[^\W\d]\w*")
_CANNOT_IMPORT = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


def hint(error: BaseException, *, packages: tuple[str, ...], tools: Iterable[str]) -> str:
    """A sentence to put behind the error's message, or nothing.

    Args:
        error: what the snippet raised.
        packages: modules beyond the standard library that can be imported here.
        tools: names of the functions that the host answers.
    """
    if isinstance(error, SyntaxError):
        return _of_syntax(error)
    if isinstance(error, SystemExit) or (isinstance(error, NameError) and error.name in ("exit", "quit")):
        return ". A snippet cannot end the program; final_answer(value) ends the run"
    if isinstance(error, NameError) and error.name:
        return _close(error.name, _visible_names(error))
    if isinstance(error, AttributeError) and error.name:
        return _close(error.name, dir(error.obj))
    if isinstance(error, ModuleNotFoundError) and error.name:
        there = f"the standard library and {', '.join(packages)}" if packages else "the standard library"
        return f". Only {there} can be imported here" + _close(error.name, [*packages, *sys.stdlib_module_names])
    if isinstance(error, ImportError):
        found = _CANNOT_IMPORT.match(str(error))
        return _close(found[1], dir(sys.modules.get(found[2]))) if found else ""
    if isinstance(error, KeyError):
        return _of_key(error)
    if isinstance(error, TypeError):
        return _of_type(error, tools)
    if isinstance(error, EOFError):
        return ". Nobody can answer input() here"
    return ""


def _of_syntax(error: SyntaxError) -> str:
    message = error.msg or ""
    if "'return' outside function" in message:
        return ". To give the answer, call final_answer(value)"
    if "invalid non-printable character" in message or "invalid character" in message:
        return ". Write plain quotation marks and signs"
    if message.startswith(("unterminated", "'(' was never", "'[' was never", "'{' was never", "unexpected EOF")):
        return ". The code may have been cut short: write less at a time"
    return ""


def _of_type(error: TypeError, tools: Iterable[str]) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    if "can't be used in 'await' expression" in str(error) or module.startswith("asyncio."):
        names = sorted(tools)
        called = f" ({', '.join(names[:5])})" if names else ""
        return f". The tools{called} are plain functions: call them without await"
    return ""


def _of_key(error: KeyError) -> str:
    """Keys that come close, of the mappings and data frames that the failing line names."""
    key: object = error.args[0] if error.args else None
    place = _place(error)
    if not isinstance(key, str) or place is None:
        return ""
    frame, number = place
    line = linecache.getline(frame.f_code.co_filename, number)
    keys: list[str] = []
    for name in dict.fromkeys(_WORD.findall(line)):
        held: Any = frame.f_locals.get(name, frame.f_globals.get(name))
        with contextlib.suppress(Exception):  # a snippet's class may do anything; whatever it is, it is no help
            found: Any = cast("Any", held) if isinstance(held, dict) else getattr(held, "columns", ())
            keys += [other for other in itertools.islice(found, _MOST_KEYS) if isinstance(other, str)]
    if not keys:
        return ""
    close = _close(key, keys)
    return close or f". There are: {', '.join(map(repr, keys[:10]))}{', ...' if len(keys) > 10 else ''}"


def _visible_names(error: BaseException) -> list[str]:
    place = _place(error)
    names = list(vars(builtins))
    return names if place is None else [*place[0].f_locals, *place[0].f_globals, *names]


def _place(error: BaseException) -> tuple[FrameType, int] | None:
    """The innermost frame of a snippet's own, and the line there."""
    found: tuple[FrameType, int] | None = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(PREFIX):
            found = trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
    return found


def _close(name: str, names: Iterable[str]) -> str:
    known = dict.fromkeys(other for other in names if not other.startswith("_") and other != name)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    if not close:  # `Price` for `price`
        close = [other for other in known if other.casefold() == name.casefold()][:3]
    return f". Did you mean {' or '.join(repr(other) for other in close)}?" if close else ""
