"""Package sets: folders of wheels that sessions may import from, made once and never changed.

Never the application's own site-packages: what an application needs is not what a model's code should see, and what
that code sees should not change with every `pip install`. A set is asked for by names, resolved into a lock with
hashes, and kept under the lock's own hash; the same names give the same set until it is resolved anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import sysconfig
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.errors import SandboxUnavailable

from .installers import Progress, choose
from .package_names import Requirement, normal, requirements

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_FORMAT = 1
_NO_MODULES = frozenset(
    {"tests", "test", "testing", "docs", "doc", "examples", "example", "benchmarks", "bin", "share"}
)
"""Folders that distributions bring along by mistake."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSet:
    """A folder that sessions may import from."""

    folder: Path
    """What goes on `sys.path`; read-only for everybody."""
    modules: tuple[str, ...]
    """What a model is told that there is, and what is imported once, before any session."""
    versions: dict[str, str]
    """Every distribution in it, with its version."""
    bytes: int

    @property
    def key(self) -> str:
        """The same for the same content."""
        return self.folder.parent.name


def package_set(names: Iterable[str], *, progress: Progress | None = None, upgrade: bool = False) -> PackageSet | None:
    """The set for these names; built if it is not here yet, which takes the index and some seconds.

    Args:
        names: as for `authorized_imports`; names of the standard library need nothing.
        progress: gets a line whenever something happened; None: one line to the log before a build.
        upgrade: resolve anew: today's versions instead of those that these names meant so far.

    Returns:
        None if the standard library has them all.

    Raises:
        ConfigurationError: a name is no package's.
        SandboxUnavailable: the index does not answer, or has no such package for this Python.
    """
    wanted = requirements(names)
    if not wanted:
        return None
    home = _home()
    request = home / "requests" / f"{_digest(_python(), *(r.specifier + '|' + (r.module or '') for r in wanted))}.json"
    known = None if upgrade else _known(home, request)
    if known is not None:
        return known
    if progress is None:
        shown = " ".join(requirement.specifier for requirement in wanted)
        _log.warning("installing %s for the sandbox; `wherry sandbox prepare %s` does it in advance", shown, shown)
    try:
        with _lock(request.with_suffix(".lock")):
            known = None if upgrade else _known(home, request)  # another process may have been quicker
            return known or _build(home, request, wanted, progress or _ignore)
    except OSError as error:
        raise SandboxUnavailable(
            f"the package set cannot be kept: {error}", hint="XDG_CACHE_HOME names the folder for it"
        ) from error


def package_sets() -> list[PackageSet]:
    """All sets on this machine that this Python can use, newest first."""
    files = [*(_home() / "requests").glob("*.json")]
    found = {s.key: s for file in files if (s := _known(_home(), file)) is not None}
    return sorted(found.values(), key=lambda s: s.folder.stat().st_mtime, reverse=True)


def _ignore(line: str) -> None: ...


def _home() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "wherry" / "packages"
    except RuntimeError as error:
        raise SandboxUnavailable(f"packages cannot be kept: {error}", hint="set XDG_CACHE_HOME to a folder") from error


def _python() -> str:
    """What wheels depend on: a set for another Python is another set."""
    return f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}-{_FORMAT}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _known(home: Path, request: Path) -> PackageSet | None:
    try:
        raw: dict[str, Any] = json.loads(request.read_text("utf-8"))  # Any: our own file, written below
        folder = home / "sets" / str(raw["set"]) / "site"
        if raw["python"] != _python() or not folder.is_dir():
            return None
        return PackageSet(folder=folder, modules=tuple(raw["modules"]), versions=raw["versions"], bytes=raw["bytes"])
    except (OSError, ValueError, KeyError):  # not there, or of another version of wherry
        return None


def _build(home: Path, request: Path, wanted: Sequence[Requirement], progress: Progress) -> PackageSet:
    installer = choose()
    lock = installer.lock([requirement.specifier for requirement in wanted], progress)
    final = home / "sets" / _digest(_python(), lock)
    with _lock(final.with_suffix(".lock")):
        if not final.is_dir():
            _install(final, lock, progress)
    made = _describe(final / "site", wanted)
    raw = {**asdict(made), "folder": None, "set": final.name, "python": _python()}
    _write(request, json.dumps(raw, default=str))
    return made


def _install(final: Path, lock: str, progress: Progress) -> None:
    building = final.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)  # of one that was killed; the lock is ours
    building.mkdir(parents=True)
    try:
        (building / "lock.txt").write_text(lock, "utf-8")
        choose().install(building / "lock.txt", building / "site", progress)
        _open_to_read(building)
        building.rename(final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _open_to_read(folder: Path) -> None:
    """Readable for whoever a session runs as, whatever the umask was; no file is writable, not even by a slip."""
    for path, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.chmod(os.path.join(path, name), 0o444)
        for name in folders:
            os.chmod(os.path.join(path, name), 0o755)  # noqa: S103  # the same that an index gives to everybody
    os.chmod(folder, 0o755)  # noqa: S103


def _describe(site: Path, wanted: Sequence[Requirement]) -> PackageSet:
    from importlib.metadata import distributions  # with all of email: for those who build a set

    found = {normal(d.name): d for d in distributions(path=[str(site)])}
    modules: list[str] = []
    for requirement in wanted:
        distribution = found.get(requirement.distribution)
        brought = _modules(distribution) if distribution is not None else []
        asked = requirement.module
        if asked is not None and (asked.split(".")[0] in brought or not brought):
            modules.append(asked)
        else:  # asked for by the distribution's name
            modules += brought
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    return PackageSet(
        folder=site,
        modules=tuple(dict.fromkeys(modules)),
        versions={d.name: d.version for d in sorted(found.values(), key=lambda d: d.name.lower())},
        bytes=size,
    )


def _modules(distribution: Distribution) -> list[str]:
    """The top-level modules of a distribution that somebody would import."""
    tops: dict[str, None] = {}
    for file in distribution.files or ():
        top = file.parts[0]
        name = top.split(".")[0] if len(file.parts) == 1 else top
        importable = file.suffix in {".py", ".so", ".pyd"}
        if importable and name.isidentifier() and not name.startswith("_") and name not in _NO_MODULES:
            tops[name] = None
    return sorted(tops)


@contextlib.contextmanager
def _lock(path: Path) -> Generator[None]:
    """Held by one process at a time; given back by the kernel, however that process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.new")
    beside.write_text(text, "utf-8")
    beside.rename(path)
