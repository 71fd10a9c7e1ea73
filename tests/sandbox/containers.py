"""A container engine of the tests' own, and an image with this machine's Python: no registry is asked for anything.

`dockerd` runs as root, touches neither the firewall nor the network, and keeps everything in a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import pytest

IMAGE = "wherry-test:latest"
"""Python at /usr/local/bin/python3, the standard library, the C libraries that both need, libseccomp, a shell; a user
`agent` (54321). Nothing of wherry: mount it, or pipe it in."""
AGENT = 54321
_START_SECONDS = 60.0
_IMPORT_SECONDS = 180.0
_LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo", "__pycache__"}
_PASSWD = f"root:x:0:0::/root:/bin/sh\nagent:x:{AGENT}:{AGENT}::/home/agent:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"


@dataclass(frozen=True, slots=True)
class Engine:
    """A running daemon with `IMAGE` in it. Give `environment` to whatever calls `docker`."""

    docker: str
    host: str
    """What DOCKER_HOST is to be."""
    image: str = IMAGE

    def run_own(
        self, program: Sequence[str], *, user: int, timeout: float, mounts: Sequence[Path] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python in a container that has this checkout and its packages, read-only, and nothing else of ours.

        As a pod is: no network, no capability that a container has not by default, namespaces refused.
        """
        checkout = Path(__file__).parents[2]
        packages = sysconfig.get_paths()["purelib"]
        path = f"{checkout / 'src'}:{packages}"
        volumes = [f"--volume={folder}:{folder}:ro" for folder in (checkout, packages, *mounts)]
        places = ["--tmpfs=/tmp:rw,exec,mode=1777,size=2g"]
        where = ["--network=none", f"--user={user}", f"--env=PYTHONPATH={path}", "--env=HOME=/home/agent"]
        where += [f"--env={name}={value}" for name, value in environment.items()]
        return self.call("run", "--rm", *where, *volumes, *places, self.image, "python3", *program, timeout=timeout)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.host}

    def call(self, *args: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """`docker ARGS`, its output as text, whatever its exit code."""
        return subprocess.run(
            [self.docker, *args], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )


@contextlib.contextmanager
def start_engine() -> Generator[Engine]:
    """Start a daemon and import the image; both are gone afterwards.

    Skips the test, and says why, where that cannot be.
    """
    docker, dockerd = shutil.which("docker"), shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if docker is None or dockerd is None:
        pytest.skip("no `docker` and `dockerd` here (Debian: docker.io)")
    if os.geteuid() != 0:
        pytest.skip("a container engine of one's own needs root")
    with tempfile.TemporaryDirectory(prefix="docker-", ignore_cleanup_errors=True) as folder:
        engine = Engine(docker, f"unix://{folder}/socket")
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(_daemon(dockerd, folder, engine.host), stdout=log, stderr=log)
        try:
            _wait_until_up(engine, process, Path(folder, "log"))
            _import_image(engine)
            yield engine
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
            _unmount_below(folder)


def _daemon(dockerd: str, folder: str, host: str) -> list[str]:
    # Should the tests be killed, the daemon goes too.
    keeper = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    where = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host={host}"]
    return [*keeper, dockerd, "--iptables=false", "--ip6tables=false", "--bridge=none", *where]


def _wait_until_up(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while engine.call("version").returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"dockerd does not run here: {log.read_text()[-500:]}")
        time.sleep(0.1)  # it has no way to say that it is ready


def _unmount_below(folder: str) -> None:
    """What a daemon that was killed left mounted: its folder could not be removed."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for target in reversed([mount for mount in mounts if mount.startswith(folder + "/")]):
        subprocess.run(["umount", "-l", target], check=False)


def _import_image(engine: Engine) -> None:
    command = [engine.docker, "import", "-", engine.image]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, env=engine.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
        ) as process,
    ):
        # A client that ends early, or is ended here, breaks the pipe that is written: nothing waits for good.
        late = threading.Timer(_IMPORT_SECONDS, process.kill)
        late.start()
        try:
            assert process.stdin is not None
            _write_image(process.stdin)
            failed = process.wait() != 0
        finally:
            late.cancel()
        if failed:
            said.seek(0)
            pytest.skip(f"no image could be made: {said.read().decode(errors='replace')}")


def _write_image(sink: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError), sink, tarfile.open(fileobj=sink, mode="w|") as tar:
        made: set[str] = set()
        for name in ("tmp", "home/agent", "root", "proc", "sys", "dev", "etc", "run", "var", "usr/local/bin"):
            _folder(tar, name, made)
        _text(tar, "etc/passwd", _PASSWD)
        _copy(tar, Path("/etc/ld.so.cache"), made)  # ctypes finds libraries by it
        _text(tar, "etc/group", f"root:x:0:\nagent:x:{AGENT}:\nnogroup:x:65534:\n")
        python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        stdlib = Path(os.__file__).resolve().parent
        programs = [python, Path("/bin/sh"), Path("/bin/sleep"), Path("/sbin/ldconfig")]
        libraries = _libraries([*programs, *stdlib.glob("lib-dynload/*.so")])
        for path in [*programs, *libraries, *(path for path in sorted(stdlib.rglob("*")) if _wanted(path, stdlib))]:
            _copy(tar, path, made)
        _link(tar, "usr/local/bin/python3", str(python))
        _link(tar, "usr/local/bin/python", str(python))


def _wanted(path: Path, stdlib: Path) -> bool:
    below = path.relative_to(stdlib).parts
    return path.is_file() and not _LEFT_OUT & set(below) and not below[0].startswith("config-")


def _libraries(programs: list[Path]) -> list[Path]:
    """The C libraries that these load, libseccomp, and what wheels expect of every system."""
    asked = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", asked, re.MULTILINE)}
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    wanted = r"(?:libseccomp\.so\.2|libstdc\+\+\.so\.6|libgcc_s\.so\.1|libz\.so\.1) .*=> (/\S+)"
    return sorted(found | {Path(path) for path in re.findall(wanted, known)})


def _copy(tar: tarfile.TarFile, path: Path, made: set[str]) -> None:
    """The file under its own name, with its links followed; the folders above may be entered by everyone."""
    name = str(path).lstrip("/")
    if name in made:
        return
    made.add(name)
    _folder(tar, os.path.dirname(name), made)
    info = tar.gettarinfo(str(path.resolve()), name)
    info.type, info.mode, info.uid, info.gid = tarfile.REGTYPE, info.mode | 0o444, 0, 0
    info.size = path.stat().st_size  # two names of one file would become a hard link without content
    with path.open("rb") as file:
        tar.addfile(info, file)


def _folder(tar: tarfile.TarFile, name: str, made: set[str]) -> None:
    parts = Path(name).parts
    for count in range(1, len(parts) + 1):
        above = "/".join(parts[:count])
        if above not in made:
            made.add(above)
            info = tarfile.TarInfo(above)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if above in ("tmp", "run") else 0o755
            if above == "home/agent":
                info.uid = info.gid = AGENT
            tar.addfile(info)


def _text(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text), 0o644
    tar.addfile(info, BytesIO(text.encode()))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)
