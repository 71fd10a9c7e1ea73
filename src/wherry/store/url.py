"""From a URL to a store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from wherry.errors import ConfigurationError

if TYPE_CHECKING:
    from wherry.store.contents import Contents
    from wherry.store.parts import MemoElsewhere
    from wherry.store.protocol import Store

VARIABLE = "WHERRY_STORE"
_FORMS = "`sqlite:///relative/path.db`, `sqlite:////absolute/path.db`, `postgresql://host/database` or `memory://`"
_POSTGRES = ("postgresql", "postgres")


def open_store(url: str | None = None, *, artifacts: str | None = None, memo: str | None = None) -> Store:
    """Open a store, and make it if it is not there.

    Args:
        url: `sqlite:///path` (relative; a fourth slash makes it absolute; `~` is the home folder), with
            `?synchronous=full` to wait for the disk at every commit and `?timeout=SECONDS` for how long to wait while
            another process writes (default 10); `postgresql://user:password@host:port/database`, with `?schema=NAME`
            (default `wherry`), `?timeout=SECONDS` for how long to wait for a server that is gone (default 30) and
            whatever else libpq knows; or `memory://`, a new store that is gone when it is closed. None: the URL in the
            environment variable WHERRY_STORE, else a database in the user's data folder.
        artifacts: Where large values are kept: `file:///folder`, `s3://bucket/prefix` or another URL that obstore
            takes. None: in a folder beside the SQLite file, in the PostgreSQL database, in memory.
        memo: `redis://host:port/number` to keep the memo there. None: in the store.

    Raises:
        ConfigurationError: A URL is none of these, or is in the home folder of a user who has none.
        MissingExtra: What it needs is not installed.
        StoreError: The store cannot be opened.
        StoreVersionError: A newer wherry wrote it.
    """
    if url is None:
        url = os.environ.get(VARIABLE) or f"sqlite:///{default_path()}"
    contents: Contents | None = None
    if artifacts is not None:
        from wherry.store.objects import ObjectContents

        contents = ObjectContents(artifacts)
    elsewhere: MemoElsewhere | None = None
    if memo is not None:
        from wherry.store.redis_memo import RedisMemo

        elsewhere = RedisMemo(memo)
    return _open(url, contents, elsewhere)


def _open(url: str, contents: Contents | None, memo: MemoElsewhere | None) -> Store:
    scheme, separator, rest = url.partition("://")
    if scheme in _POSTGRES and separator:
        from wherry.store.postgres import PostgresStore

        plain, schema, timeout = _postgres_options(url)
        return PostgresStore(plain, schema=schema, timeout=timeout, contents=contents, memo=memo)
    from wherry.store.sqlite import SQLiteStore  # not at import: a program may never open one

    if scheme == "memory" and separator and not rest:
        return SQLiteStore(url=url, contents=contents, memo=memo)
    place, _, options = rest.partition("?")
    if scheme != "sqlite" or len(place) < 2 or not place.startswith("/"):
        raise ConfigurationError(f"{_shown(url)!r} names no store", hint=f"write {_FORMS}")
    full, timeout = _options(url, options)
    path = _without_tilde(Path(place[1:])).absolute()
    return SQLiteStore(path, url=url, full=full, timeout=timeout, contents=contents, memo=memo)


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
        elif name == "timeout" and (seconds := _seconds(value)) is not None:
            timeout = seconds
        else:
            raise ConfigurationError(
                f"{url!r} has the option `{name}={value}`, which a store does not know",
                hint="options are `synchronous=normal`, `synchronous=full` and `timeout=SECONDS`",
            )
    return full, timeout


def _postgres_options(url: str) -> tuple[str, str, float]:
    """The URL without our own options, and these. The others are libpq's."""
    place, _, options = url.partition("?")
    schema, timeout, others = "wherry", 30.0, list[tuple[str, str]]()
    for name, value in parse_qsl(options, keep_blank_values=True):
        if name == "schema" and re.fullmatch("[a-z_][a-z0-9_]{0,62}", value):
            schema = value
        elif name == "timeout" and (seconds := _seconds(value)) is not None:
            timeout = seconds
        elif name in ("schema", "timeout"):
            raise ConfigurationError(
                f"the store's option `{name}={value}` is none",
                hint="a schema is a name of small letters, digits and underscores, a timeout a number of seconds",
            )
        else:
            others.append((name, value))
    return f"{place}?{urlencode(others)}" if others else place, schema, timeout


def _shown(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(?<=//)([^/@:]*):[^/@]*@", r"\1:...@", url)


def _seconds(text: str) -> float | None:
    return float(text) if text.replace(".", "", 1).isdecimal() else None
