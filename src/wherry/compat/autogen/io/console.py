"""The name that programs import from `autogen.io.console`."""

from __future__ import annotations

from wherry.compat.autogen.io.base import IOConsole

__all__ = ["IOConsole"]
