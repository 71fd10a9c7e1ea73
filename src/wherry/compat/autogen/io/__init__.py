"""The names that programs import from `autogen.io`."""

from __future__ import annotations

from wherry.compat.autogen.io.base import InputStream, IOConsole, IOStream, OutputStream
from wherry.compat.autogen.io.websockets import IOWebsockets

__all__ = ["IOConsole", "IOStream", "IOWebsockets", "InputStream", "OutputStream"]
