"""Where agents print and ask: a stream of a program's own instead of the terminal; named as programs import it."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol, runtime_checkable  # Any: what is printed


@runtime_checkable
class OutputStream(Protocol):
    """Takes what is printed."""

    def print(self, *objects: Any, sep: str = " ", end: str = "\n", flush: bool = False) -> None: ...


@runtime_checkable
class InputStream(Protocol):
    """Asks a person."""

    def input(self, prompt: str = "", *, password: bool = False) -> str: ...


class IOStream:
    """Both; a class of a program's own has `print` and `input`.

    `with IOStream.set_default(stream):` has agents use it within the block, in this thread or task.
    """

    _global: ClassVar[Any] = None
    _default: ClassVar[ContextVar[Any]] = ContextVar("wherry_autogen_io", default=None)

    @staticmethod
    def set_global_default(stream: Any) -> None:
        """Have agents use it wherever no other is set."""
        IOStream._global = stream

    @staticmethod
    def get_global_default() -> Any:
        """The one that is used where no other is set: the terminal, if nothing was said."""
        if IOStream._global is None:
            IOStream._global = IOConsole()
        return IOStream._global

    @staticmethod
    def get_default() -> Any:
        """The one that is used here."""
        stream = IOStream._default.get()
        return IOStream.get_global_default() if stream is None else stream

    @staticmethod
    @contextmanager
    def set_default(stream: Any) -> Generator[None]:
        """While this lasts, agents use it here."""
        token = IOStream._default.set(stream)
        try:
            yield
        finally:
            IOStream._default.reset(token)


class IOConsole(IOStream):
    """The terminal."""

    def print(self, *objects: Any, sep: str = " ", end: str = "\n", flush: bool = False) -> None:
        sys.stdout.write(sep.join(map(str, objects)) + end)
        if flush:
            sys.stdout.flush()

    def input(self, prompt: str = "", *, password: bool = False) -> str:
        sys.stdout.flush()
        return getpass.getpass(prompt) if password else input(prompt)
