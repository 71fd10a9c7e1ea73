"""Asking an index, through the user's own pip or uv: which files, then those files and no others.

Both find their index, certificates and credentials where the user configured them; nothing here knows an address. Only
wheels are taken: a source distribution runs its author's code on the host while it is built.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol, cast

from wherry.errors import SandboxUnavailable

Progress = Callable[[str], None]
"""Gets a line of text whenever something happened."""

_NEWS = re.compile(r"(Collecting|Downloading|Using cached|Installing|Resolved|Prepared|Installed|Downloaded) ")
_SECRET = re.compile(r"(?<=//)[^/\s@]+@")
_NOISE = re.compile(r"WARNING: (Location|Retrying)|Looking in |\[notice\]|DEPRECATION")
_NO_ANSWER = re.compile(
    r"Failed to establish|Temporary failure|Name or service|timed out|Connection (refused|error|reset)|"
    r"dns error|error sending request|Could not connect|NewConnectionError|Network is unreachable|offline",
    re.IGNORECASE,
)
_NO_MATCH = re.compile(
    r"No matching distribution|no version|not found in|no solution|Could not find a version", re.IGNORECASE
)


class Installer(Protocol):
    """Resolves to a lock, and installs exactly what a lock says."""

    def lock(self, specifiers: Sequence[str], progress: Progress) -> str:
        """The text of a requirements file in which every line has its version and hashes."""
        ...

    def install(self, lock: Path, target: Path, progress: Progress) -> None: ...


def choose() -> Installer:
    """uv where it is configured or alone, else pip.

    uv does not read pip's configuration, nor pip uv's: a company's index is known to one of them.

    Raises:
        SandboxUnavailable: neither is here.
    """
    uv = _uv()
    pip = find_spec("pip") is not None
    if uv is not None and (not pip or _uv_is_configured()):
        return Uv(uv)
    if pip:
        return Pip()
    raise SandboxUnavailable(
        "packages for the sandbox are installed with pip or uv, and neither is here", hint="python -m ensurepip"
    )


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _uv_is_configured() -> bool:
    names = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE")
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    files = (Path(config).expanduser() / "uv/uv.toml", Path("/etc/uv/uv.toml"))
    return any(os.environ.get(name) for name in names) or any(file.exists() for file in files)


class Pip:
    """The pip of the interpreter that runs this."""

    # -P: a folder named `pip` where the user happens to stand is not pip.
    _command = (sys.executable, "-P", "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
                "--retries", "1", "--progress-bar", "off", "--only-binary", ":all:")  # fmt: skip

    def lock(self, specifiers: Sequence[str], progress: Progress) -> str:
        with tempfile.TemporaryDirectory(prefix="wherry-") as folder:
            report = Path(folder, "report.json")
            wanted = ["--dry-run", "--ignore-installed", "--report", str(report), *specifiers]
            _run([*self._command, *wanted], progress, specifiers)
            found: dict[str, Any] = json.loads(report.read_text("utf-8"))  # Any: pip's report, version 1
        return "".join(sorted(_lock_line(item) for item in found["install"]))

    def install(self, lock: Path, target: Path, progress: Progress) -> None:
        exact = ["--no-deps", "--require-hashes", "--no-warn-conflicts", "--target", str(target), "-r", str(lock)]
        _run([*self._command, *exact], progress, [])


def _lock_line(item: Mapping[str, Any]) -> str:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    hashes: dict[str, str] = item["download_info"].get("archive_info", {}).get("hashes", {})
    if "sha256" not in hashes:
        raise SandboxUnavailable(f"the index gives no SHA-256 for {name} {version}")
    return f"{name}=={version} --hash=sha256:{hashes['sha256']}\n"


class Uv:
    """The command uv."""

    def __init__(self, path: str) -> None:
        self._path = path

    def lock(self, specifiers: Sequence[str], progress: Progress) -> str:
        options = ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        command = [self._path, "pip", "compile", "-", *options, "--only-binary", ":all:", "--python", sys.executable]
        return _run([*command, "--quiet"], progress, specifiers, text="\n".join(specifiers))

    def install(self, lock: Path, target: Path, progress: Progress) -> None:
        options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--compile-bytecode", "--no-progress"]
        where = ["--target", str(target), "--python", sys.executable, "-r", str(lock)]
        _run([self._path, "pip", "install", *options, *where], progress, [])


def _run(command: Sequence[str], progress: Progress, specifiers: Sequence[str], *, text: str = "") -> str:
    """Standard output; what is written there or to standard error is passed on line by line where it is news."""
    # A user's defaults for their own environments would contradict `--target`.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    told: list[list[str]] = [[], []]
    stdin, out, errors = cast("tuple[IO[str], ...]", (process.stdin, process.stdout, process.stderr))
    with process:
        stdin.write(text)
        stdin.close()
        reader = threading.Thread(target=_follow, args=(errors, told[1], progress))
        reader.start()
        _follow(out, told[0], progress)
        reader.join()
    if process.returncode:
        raise _failure(_SECRET.sub("", "".join(told[0] + told[1])), specifiers)
    return "".join(told[0])


def _follow(stream: IO[str], lines: list[str], progress: Progress) -> None:
    for line in stream:
        lines.append(line)
        news = line.strip().split(" (from ")[0]  # what wanted it does not matter to who waits
        if _NEWS.match(news):
            progress(_SECRET.sub("", news))


def _failure(text: str, specifiers: Sequence[str]) -> SandboxUnavailable:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    shown = "\n  ".join(lines[-6:])
    what = f" ({', '.join(specifiers)})" if specifiers else ""
    if _NO_ANSWER.search(text):
        hint = "the index did not answer: check the network and the index that pip or uv is configured with"
    elif _NO_MATCH.search(text):
        hint = "check the name and the versions; only packages with a wheel for this Python and machine can be taken"
    else:
        hint = "what is above is what the installer said"
    return SandboxUnavailable(f"the packages for the sandbox could not be installed{what}:\n  {shown}", hint=hint)
