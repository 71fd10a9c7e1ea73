"""`wherry models`: the embedded models."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from wherry.cli.ending import Exit, print_json
from wherry.errors import CatalogueError
from wherry.models.local import pull
from wherry.models.local.catalogue import catalogue, gigabytes, path, recommended
from wherry.observe.costs import aligned


def list_embedded(*, as_json: bool) -> Exit:
    """One line a model, best first."""
    if as_json:
        for entry in catalogue():
            here = path(entry.name)
            print_json(
                {
                    "name": entry.name,
                    "title": entry.title,
                    "download": entry.download,
                    "size": entry.size,
                    "memory": entry.ram,
                    "window": entry.window,
                    "licence": entry.licence,
                    "sha256": entry.sha256,
                    "path": None if here is None else str(here),
                }
            )
        return Exit.DONE
    rows = [("model", "here", "download", "memory", "window", "licence")]
    rows += [
        (
            entry.name,
            "yes" if path(entry.name) else "no",
            gigabytes(entry.download),
            gigabytes(entry.ram),
            f"{entry.window:,}",
            entry.licence,
        )
        for entry in catalogue()
    ]
    sys.stdout.write("".join(f"{line}\n" for line in aligned(rows)))
    return Exit.DONE


def pull_embedded(name: str | None) -> Exit:
    """Download a model, with a progress bar.

    Raises:
        CatalogueError: there is no such model, or it cannot be had; the message says why.
    """
    name = name or recommended().name
    here = path(name)
    if here is None:
        here = _with_bar(name) if sys.stderr.isatty() else _with_lines(name)
    sys.stdout.write(f"{name} is at {here}\n")
    return Exit.DONE


def print_path(name: str) -> Exit:
    """The path of a model's file.

    Raises:
        CatalogueError: there is no such model, or it is not on this machine.
    """
    here = path(name)
    if here is None:
        raise CatalogueError(f"{name} is not on this machine", hint=f"wherry models pull {name}")
    sys.stdout.write(f"{here}\n")
    return Exit.DONE


def _with_bar(name: str) -> Path:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True) as bar:
        shown = bar.add_task(name, total=None)
        return pull(
            name,
            progress=lambda done, total, what: bar.update(
                shown, completed=done, total=total, description=f"{name}: {what}"
            ),
        )


def _with_lines(name: str) -> Path:
    """Plain lines: one for every tenth of the way, and one whenever something else is being done."""
    told = ("", -1)

    def progress(done: int, total: int, what: str) -> None:
        nonlocal told
        tenth = 10 * done // total if total else 0
        now = (re.sub(r"\d+", "", what), tenth)  # "part 3 of 22" and "part 4 of 22" are the same doing
        if now != told:
            told = now
            sys.stderr.write(f"{name}: {what}, {gigabytes(done)} of {gigabytes(total)}\n")
            sys.stderr.flush()

    return pull(name, progress=progress)
