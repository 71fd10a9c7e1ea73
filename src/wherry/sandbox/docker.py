"""The tier `docker`: the worker in a container, for those who have a container engine and trust its walls.

What a container is asked to be and what it is are two things: an engine without access to cgroups ignores limits with
a mere warning. So the worker says first what it finds, and a session whose walls are not all there is not opened.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import IO, Any

from wherry.errors import SandboxError, SandboxUnavailable

from .child_link import ChildLink, greet
from .children import ChildSandbox
from .inside.bare import Options
from .launch import INSIDE
from .limits import MIB, SandboxLimits
from .packages import PackageSet
from .seccomp import compile_filter

IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
"""What `sandbox="docker"` runs in: the Python of this process, since package sets fit one version only."""
_NOBODY = 65534
_INTERPRETER_BYTES = 64 * MIB
"""What the worker itself takes of the container's memory."""
_START_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_checked: dict[tuple[str, SandboxLimits, str], DockerSandbox] = {}
_lock = threading.Lock()


class DockerSandbox(ChildSandbox):
    """See `Sandbox`."""

    def __init__(self, image: str, limits: SandboxLimits, *, packages: PackageSet | None = None) -> None:
        """Raises:
        SandboxUnavailable: there is no engine, it does not answer, or it has no such image.
        """
        self._engine = _find_engine()
        compile_filter(namespaces=True)  # said here if it cannot be, not at the first session
        self._begin = functools.partial(_start, self._engine, image, limits, packages)
        super().__init__("docker", limits, self._begin)
        _require_image(self._engine, image)

    def check(self) -> None:
        """Open a container and end it.

        Raises:
            SandboxUnavailable: a wall or a limit is not there; the message names it.
        """
        try:
            self._begin().release()
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            raise SandboxUnavailable(f"the sandbox tier `docker` does not work here: {error.message}") from error


def docker_sandbox(image: str, limits: SandboxLimits, packages: PackageSet | None) -> DockerSandbox:
    """A sandbox whose walls were looked at, shared in the process by all who ask for the same.

    Args:
        image: an image on this machine with Python 3.11 or newer; empty: `IMAGE`.
        limits: of each session.
        packages: what they may import beyond the standard library.

    Raises:
        SandboxUnavailable: it cannot be had; the message says why.
    """
    key = (image or IMAGE, limits, packages.key if packages else "")
    with _lock:
        if key not in _checked:
            sandbox = DockerSandbox(key[0], limits, packages=packages)
            sandbox.check()
            _checked[key] = sandbox
        return _checked[key]


def look(image: str = "") -> str:
    """Whether sessions could be opened, as far as that is known without opening one: the engine and the image.

    Returns:
        The image's name.

    Raises:
        SandboxUnavailable: there is no engine, it does not answer, or it has no such image.
    """
    _require_image(_find_engine(), image or IMAGE)
    return image or IMAGE


def pull(image: str = "") -> None:
    """Bring an image onto this machine; the engine shows its progress on the terminal.

    Raises:
        SandboxUnavailable: there is no engine, or it cannot bring it.
    """
    if subprocess.run([_find_engine(), "pull", image or IMAGE], check=False).returncode:
        raise SandboxUnavailable(f"the image {image or IMAGE} cannot be had; the engine's own words are above")


def _find_engine() -> str:
    found = shutil.which("docker") or shutil.which("podman")
    if found is None:
        raise SandboxUnavailable('sandbox="docker" needs the command `docker` or `podman`; neither is on the PATH')
    return found


def _require_image(engine: str, image: str) -> None:
    if _ask(engine, "image", "inspect", "--format", "{{.Id}}", image)[0] == 0:
        return
    code, told = _ask(engine, "version", "--format", "{{.Server.Version}}")
    if code:
        raise SandboxUnavailable(
            f"the container engine does not answer: {told[-300:]}", hint="start it, or set DOCKER_HOST"
        )
    raise SandboxUnavailable(
        f"the image {image} is not on this machine, and nothing is downloaded unasked",
        hint=f"wherry sandbox prepare docker:{image}",
    )


def _ask(engine: str, *arguments: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [engine, *arguments], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {_ANSWER_SECONDS:g} s"
    return done.returncode, (done.stdout + done.stderr).strip()


class ContainerLink(ChildLink):
    """The engine's command, which passes frames and signals on; the container itself is ended by its name."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes], engine: str, name: str) -> None:
        self._engine, self._name = engine, name
        self._removal: subprocess.Popen[bytes] | None = None
        self._folder = -1
        super().__init__(sock, process)

    @property
    def folder(self) -> int | None:
        """See `ProcessLink.folder`."""
        return self._folder if self._folder >= 0 else None

    def look_into(self) -> None:
        """Open the work folder from outside, which root on the engine's own machine can."""
        code, told = _ask(self._engine, "inspect", "--format", "{{.State.Pid}}", self._name)
        if not code and told.isdigit() and int(told) > 0:
            with contextlib.suppress(OSError):
                self._folder = os.open(
                    os.path.join("/proc", str(told), "root", "work"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )

    def signal(self, number: int) -> None:
        if number not in (signal.SIGSTOP, signal.SIGCONT):  # they would stop the command alone, not the container
            super().signal(number)

    def kill(self) -> None:
        """See `ProcessLink.kill`. The engine needs some tenths of a second, for which nobody waits."""
        if self.sock.fileno() >= 0:
            self._removal = subprocess.Popen(
                [self._engine, "rm", "--force", self._name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            super().kill()

    def release(self) -> None:
        """See `ProcessLink.release`."""
        super().release()
        if self._folder >= 0:
            folder, self._folder = self._folder, -1
            os.close(folder)
        if self._removal is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._removal.wait(_ANSWER_SECONDS)


def _start(engine: str, image: str, limits: SandboxLimits, packages: PackageSet | None) -> ContainerLink:
    name = f"wherry-{uuid.uuid4().hex}"
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as complaints:
        with theirs:
            process = subprocess.Popen(
                _command(engine, name, image, limits, packages),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=complaints,
                start_new_session=True,  # Ctrl-C goes to the host alone, which decides
            )
        link = ContainerLink(ours, process, engine, name)
        try:
            _verify(_findings(link, limits, packages, complaints), limits, packages)
            link.look_into()
        except BaseException:
            link.release()
            raise
    return link


def _command(engine: str, name: str, image: str, limits: SandboxLimits, packages: PackageSet | None) -> Sequence[str]:
    memory = limits.memory_bytes + limits.disk_bytes + _INTERPRETER_BYTES  # files there are memory, too
    work = f"/work:rw,nosuid,nodev,noexec,size={limits.disk_bytes},nr_inodes={limits.inodes},mode=700"
    shown = [f"type=bind,source={INSIDE},target=/wherry/inside,readonly"]
    if packages is not None:
        shown.append(f"type=bind,source={packages.folder},target=/packages,readonly")
    return [
        *(engine, "run", "--interactive", "--rm", "--pull=never", f"--name={name}", "--log-driver=none"),
        *("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--ipc=none"),
        *(f"--user={_NOBODY}:{_NOBODY}", "--hostname=sandbox", "--workdir=/work"),
        *(f"--tmpfs={work},uid={_NOBODY},gid={_NOBODY}", *(f"--mount={mount}" for mount in shown)),
        *(
            f"--memory={memory}",
            f"--memory-swap={memory}",
            f"--pids-limit={limits.threads + 1}",
        ),  # one is the watcher's
        *("--env=OPENBLAS_NUM_THREADS=1", "--env=MALLOC_ARENA_MAX=1"),
        *("--entrypoint=python3", image, "-I", "-S", "-B", "-X", "utf8", "/wherry/inside", "contained", "0"),
    ]


def _findings(
    link: ContainerLink, limits: SandboxLimits, packages: PackageSet | None, complaints: IO[bytes]
) -> dict[str, Any]:  # Any: JSON, from before any snippet
    program = compile_filter(namespaces=True)
    options = Options(
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
        disk_bytes=limits.disk_bytes,
        descriptors=limits.descriptors,
        stdout_bytes=limits.stdout_bytes,
        packages="/packages" if packages else "",
        modules=packages.modules if packages else (),
        program=program.code.hex(),
        seccomp=program.numbers["seccomp"],
    )
    told = greet(link, options.encode() + b"\n", complaints, seconds=_START_SECONDS)
    try:
        return json.loads(told)
    except ValueError:
        raise SandboxError(f"the container said no findings but {told[:200]!r}") from None


def _verify(found: Mapping[str, Any], limits: SandboxLimits, packages: PackageSet | None) -> None:
    most = limits.memory_bytes + limits.disk_bytes + _INTERPRETER_BYTES
    page = 1 << 16  # engines round up to pages, of up to this size
    walls = {
        "a user other than root": found["uid"] != 0,
        "no capabilities": found["capabilities"] == 0,
        "no-new-privileges": found["no_new_privileges"],
        "the system call filter": found["filtered"],
        f"no network (there is {', '.join(found['network'])})": not found["network"],
        "a read-only root": found["read_only"],
        "a work folder of its own": found["own_folder"],
        "the limit `memory_bytes`": found["memory"] is not None and found["memory"] <= most + page,
        "the limit `threads`": found["pids"] is not None and found["pids"] <= limits.threads + 1,
        "the limit `disk_bytes`": 0 < found["disk"] <= limits.disk_bytes + page,
        "the limit `inodes`": 0 < found["inodes"] <= limits.inodes,
    }
    missing = [wall for wall, there in walls.items() if not there]
    if missing:
        raise SandboxUnavailable(
            f"the container engine does not keep {'; '.join(missing)}",
            hint="it needs access to cgroups (rootless: version 2, delegated to the user), or take another tier",
        )
    if packages is not None and tuple(found["python"]) != sys.version_info[:2]:
        ours, inside = (".".join(map(str, v)) for v in (sys.version_info[:2], found["python"]))
        raise SandboxUnavailable(
            f"the packages were installed for Python {ours}; the image has {inside}",
            hint=f"take an image with that Python, as {IMAGE}",
        )
