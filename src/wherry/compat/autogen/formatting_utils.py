"""The name that programs import from `autogen.formatting_utils`: text in colours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

_COLORS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "light_grey")
_LIGHT = ("dark_grey", "light_red", "light_green", "light_yellow", "light_blue", "light_magenta", "light_cyan", "white")
_CODES = {name: 30 + n for n, name in enumerate(_COLORS)} | {name: 90 + n for n, name in enumerate(_LIGHT)}
_CODES["grey"] = _CODES["black"]
_ATTRS = {"bold": 1, "dark": 2, "underline": 4, "blink": 5, "reverse": 7, "concealed": 8, "strike": 9}


def colored(
    text: object,
    color: str | None = None,
    on_color: str | None = None,
    attrs: Iterable[str] | None = None,
    *,
    no_color: bool | None = None,
    force_color: bool | None = None,
) -> str:
    """A text with the codes that terminals show in colours; plain where none would be seen.

    Args:
        text: What.
        color: `"red"`, `"light_blue"` and so on.
        on_color: The same behind it, as `"on_red"`.
        attrs: `"bold"`, `"underline"` and so on.
        no_color: Whether it stays plain in any case.
        force_color: Whether it has colours in any case.

    Raises:
        KeyError: there is no such colour or attribute.
    """
    codes = [_ATTRS[one] for one in attrs or ()]
    codes += [_CODES[color]] if color else []
    codes += [_CODES[on_color.removeprefix("on_")] + 10] if on_color else []
    if not codes or no_color or not (force_color or _seen()):
        return str(text)
    return "".join(f"\033[{code}m" for code in codes) + f"{text}\033[0m"


def _seen() -> bool:
    if "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return False
    return "FORCE_COLOR" in os.environ or sys.stdout.isatty()
