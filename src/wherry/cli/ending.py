"""How the command ends: exit codes, and what a person sees of an error. Never a traceback, unless asked for."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from enum import IntEnum

from wherry.errors import ConfigurationError, MissingExtra, ModelNotConfigured, WherryError
from wherry.observe.visible import visible


class Exit(IntEnum):
    """What the shell is told."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """The command line or the configuration is wrong; nothing was run."""
    WAITING = 3
    """The run waits for somebody's approval."""
    LIMIT = 4
    """A limit was reached, the number of steps included."""
    INTERRUPTED = 130
    CLOSED = 141
    """Whoever read the output has gone, as `head` does."""
    TERMINATED = 143


_OF_STATUS = {
    "completed": Exit.DONE,
    "waiting": Exit.WAITING,
    "limit": Exit.LIMIT,
    "max_steps": Exit.LIMIT,
}


def exit_of(status: str) -> Exit:
    """The exit code of a run that ended with this status."""
    return _OF_STATUS.get(status, Exit.FAILED)


def report(error: WherryError, *, as_json: bool) -> Exit:
    """Tell a person what went wrong and what to do; with `as_json`, tell a program on standard output too."""
    if as_json:
        diagnosis = None if error.diagnosis is None else dict(error.diagnosis)
        _print_error(error, error.message, hint=error.hint, run_id=error.run_id, diagnosis=diagnosis)
    no_model = isinstance(error, ModelNotConfigured) or (isinstance(error, MissingExtra) and error.extra == "local")
    if no_model and not as_json:
        from wherry.cli.choices import no_model_screen

        complain(no_model_screen(error))
    else:
        complain(f"wherry: {error.message}")
        if error.hint:
            complain(f"  hint: {error.hint}")
    return Exit.USAGE if isinstance(error, ConfigurationError) else Exit.FAILED


def report_unexpected(error: BaseException, *, as_json: bool, debug: bool) -> Exit:
    """One line for the person, the traceback for whoever mends it; with `as_json`, tell a program too."""
    if as_json:
        _print_error(error, str(error))
    if debug:
        traceback.print_exception(error)
        return Exit.FAILED
    complain(f"wherry: unexpected {type(error).__name__}: {visible(str(error))[:500]}")
    with contextlib.suppress(OSError):
        descriptor, path = tempfile.mkstemp(prefix="wherry-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
        complain(f"  the whole traceback is in {path}; `wherry --debug ...` shows it at once")
    return Exit.FAILED


def complain(text: str) -> None:
    """A text on standard error; silently nowhere, if nobody reads that."""
    with contextlib.suppress(OSError):
        print(visible(text), file=sys.stderr, flush=True)  # noqa: T201 - the command's own voice


def print_json(value: object) -> None:
    """One JSON value on one line of standard output, in ASCII, so that no terminal or encoding can mistake it."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


def _print_error(
    error: BaseException,
    message: str,
    *,
    hint: str | None = None,
    run_id: str | None = None,
    diagnosis: dict[str, object] | None = None,
) -> None:
    known = {"hint": hint, "run_id": run_id, "diagnosis": diagnosis}
    print_json({"type": "error", "error": type(error).__name__, "message": message, **known})
