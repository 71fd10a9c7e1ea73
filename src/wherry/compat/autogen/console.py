"""What is printed: messages as they come, and what agents do meanwhile."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from wherry.compat.autogen.io import IOStream

_silenced: ContextVar[bool] = ContextVar("wherry_autogen_silenced", default=False)


def say(text: str) -> None:
    """Print, at once, unless this is within a chat that is silent."""
    if not _silenced.get():
        IOStream.get_default().print(text, flush=True)


@contextmanager
def silenced(silent: bool | None) -> Generator[None]:
    """While this lasts, nothing is printed if it is to be silent."""
    token = _silenced.set(_silenced.get() or bool(silent))
    try:
        yield
    finally:
        _silenced.reset(token)
