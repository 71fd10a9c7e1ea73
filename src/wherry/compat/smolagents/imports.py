"""From imports that a program authorises to packages that a sandbox has."""

from __future__ import annotations

import sys
from collections.abc import Iterable

BASE_BUILTIN_MODULES = [
    "collections",
    "datetime",
    "itertools",
    "math",
    "queue",
    "random",
    "re",
    "stat",
    "statistics",
    "time",
    "unicodedata",
]
"""Modules that snippets may import in any case. Here that is the whole standard library."""


def packages(imports: Iterable[str]) -> tuple[str, ...]:
    """The packages to install for these imports: `numpy.*` is numpy; `*` and what comes with Python need none."""
    heads = (name.split(".")[0].strip() for name in imports)
    return tuple(dict.fromkeys(head for head in heads if head not in ("*", "") and head not in sys.stdlib_module_names))
