"""The embedded model: catalogue, download, llama.cpp's server in a child process.

`LocalModel` and `pull` load when they are first named; the list of models is `wherry.models.local.catalogue`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.models.local.fetch import pull
    from wherry.models.local.model import LocalModel

__all__ = ["LocalModel", "pull"]

_HOMES = {"LocalModel": "model", "pull": "fetch"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
