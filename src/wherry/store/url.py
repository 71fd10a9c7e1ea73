"""From a URL to a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    from wherry.store.protocol import Store

VARIABLE = "WHERRY_STORE"
_FORMS = "`sqlite:///relative/path.db`, `sqlite:////absolute/path.db` or `memory://`"


def open_store(url: str | None = None) -> Store:
    """Open a store, and make it if it is not there.

    Args:
        url: `sqlite:///path` (relative; a fourth slash makes it absolute; `~` is the home folder), with
            `?synchronous=full` to wait for the disk at every commit and `?timeout=SECONDS` for how long to wait while
            another process writes (default 10); or `memory://`, a new store that is gone when it is closed. None: the
            URL in the environment variable WHERRY_STORE, else a database in the user's data folder.

    Raises:
        ConfigurationError: The URL is none of these, or is in the home folder of a user who has none.
        StoreError: The store cannot be opened.
        StoreVersionError: A newer wherry wrote it.
    """
    from wherry.store.sqlite import SQLiteStore  # not at import: a program may never open one

    if url is None:
        url = os.environ.get(VARIABLE) or f"sqlite:///{default_path()}"
    scheme, separator, rest = url.partition("://")
    if scheme == "memory" and separator and not rest:
        return SQLiteStore(url=url)
    place, _, options = rest.partition("?")
    if scheme != "sqlite" or len(place) < 2 or not place.startswith("/"):
        raise ConfigurationError(f"{url!r} names no store", hint=f"write {_FORMS}")
    full, timeout = _options(url, options)
    return SQLiteStore(_without_tilde(Path(place[1:])).absolute(), url=url, full=full, timeout=timeout)


def default_path() -> Path:
    """The database of a user who did not say where: in `$XDG_DATA_HOME`, else in `~/.local/share`.

    Raises:
        ConfigurationError: The user has no home folder, as in a container that runs under an arbitrary user id.
    """
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return _without_tilde(Path(data)) / "wherry" / "wherry.db"


def _without_tilde(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"{str(path)!r} has no place: this user has no home folder",
            hint=f"set {VARIABLE} to a URL such as `sqlite:////data/wherry.db`, or the variable HOME to a folder",
        ) from None


def _options(url: str, text: str) -> tuple[bool, float]:
    full, timeout = False, 10.0
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name == "synchronous" and value in ("normal", "full"):
            full = value == "full"
        elif name == "timeout" and value.replace(".", "", 1).isdecimal():
            timeout = float(value)
        else:
            raise ConfigurationError(
                f"{url!r} has the option `{name}={value}`, which a store does not know",
                hint="options are `synchronous=normal`, `synchronous=full` and `timeout=SECONDS`",
            )
    return full, timeout
