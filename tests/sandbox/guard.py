"""The guard that the abuse cases run in: a host process with everything that an attacker would like to reach.

Run as `python guard.py CASES.json root|user TIER [ID,ID...]`; it moves itself into mount, pid and net namespaces of its
own, so that a case that gets out of the sandbox finds decoys and not the machine. With GUARDED=container it is in a
container already, and is what it was started as. Prints one JSON line a case: `{"id", "broken": [...]}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HOST_SECRET = "DECOY-HOSTMEM-7f7f"
SERVICE_USER = 54321
HOME = Path("/home/agent")
WALL_SECONDS = 2.0
SLACK_SECONDS = 2.5
HOST_GROWTH = 450 << 20
reached: list[str] = []


def build() -> None:
    """The decoys."""
    contained = os.environ["GUARDED"] == "container"
    os.environ.clear()
    os.environ.update(OPENAI_API_KEY="DECOY-ENVKEY-42", PATH="/usr/bin:/bin", HOME=str(HOME), LANG="C.UTF-8")
    if not contained:
        _cover("/home", "/tmp", "/run")
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False) if shutil.which("ip") else _loopback_up()
    (HOME / ".ssh").mkdir(parents=True)
    (HOME / "app").mkdir()
    (HOME / ".ssh/id_rsa").write_text("DECOY-SSHKEY-1a2b\n")
    (HOME / "app/.env").write_text("KEY=DECOY-DOTENV-9\n")
    (HOME / "app/main.py").write_text("print('app')\n")
    (HOME / "canary.txt").write_text("alive\n")
    import sqlite3

    with contextlib.closing(sqlite3.connect(HOME / "app/db.sqlite")) as db:
        db.execute("create table t(v)")
        db.execute("insert into t values('DECOY-DB-5')")
        db.commit()
    Path("/run/decoy").mkdir()


def _loopback_up() -> None:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))


def _cover(*folders: str) -> None:
    """Empty folders in place of these, in which only what this program runs on is found again.

    The same for folders that another user may not pass: an interpreter in root's home would be out of reach.
    """
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path(__file__).resolve().parents[2]}
    needed = {path for path in needed if not any(path != other and path.is_relative_to(other) for other in needed)}
    closed = {parent for path in needed for parent in path.parents if not parent.stat().st_mode & 0o001}
    covered = [*folders, *(str(path) for path in sorted(closed) if not _inside(path, folders))]
    kept: dict[Path, str] = {}
    for path in needed:
        if _inside(path, covered):
            kept[path] = tempfile.mkdtemp(dir="/mnt")
            subprocess.run(["mount", "--bind", str(path), kept[path]], check=True)
    for folder in covered:
        mode = "1777" if folder in folders else "755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode={mode},size=2g", "tmpfs", folder], check=True)
    for path, place in kept.items():
        path.mkdir(parents=True)
        subprocess.run(["mount", "--move", place, str(path)], check=True)
        Path(place).rmdir()


def _inside(path: Path, folders: Iterable[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def become(user: str) -> None:
    if user == "user" and os.getuid() == 0:
        for path in [HOME, *HOME.rglob("*"), Path("/run/decoy")]:
            os.chown(path, SERVICE_USER, SERVICE_USER)
        os.setgroups([])
        os.setresgid(SERVICE_USER, SERVICE_USER, SERVICE_USER)
        os.setresuid(SERVICE_USER, SERVICE_USER, SERVICE_USER)
        import ctypes

        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # a change of ids made it undumpable, and its own /proc files root's


def listen() -> None:
    addresses: list[tuple[int, int, Any]] = [
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 18080)),
        (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 18080)),
        (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 18081)),
        (socket.AF_UNIX, socket.SOCK_STREAM, "/tmp/decoy.sock"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0decoy"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "/run/decoy/docker.sock"),
        (socket.AF_UNIX, socket.SOCK_DGRAM, "/tmp/decoy.dgram"),
    ]
    for family, kind, address in addresses:
        try:
            sock = socket.socket(family, kind)
            sock.bind(address)
        except OSError:
            if family == socket.AF_INET6:
                continue
            raise
        threading.Thread(target=_watch, args=(sock, kind, str(address)), daemon=True).start()


def _watch(sock: socket.socket, kind: int, name: str) -> None:
    if kind == socket.SOCK_STREAM:
        sock.listen()
    while True:
        if kind == socket.SOCK_STREAM:
            sock.accept()[0].close()
        else:
            sock.recv(100)
        reached.append(name)


class Processes:
    """All processes of the guard's pid namespace that are not its own."""

    def __init__(self) -> None:
        self.known: set[int] = set()

    def all(self) -> set[int]:
        return {int(name) for name in os.listdir("/proc") if name.isdigit()}

    def new(self) -> set[int]:
        return {pid for pid in self.all() - self.known if not _zombie(pid)}

    def ticks(self) -> int:
        total = 0
        for pid in self.all():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total


def _zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def tree() -> dict[str, bytes]:
    """Home as it is, contents, modes and times."""
    return {
        str(path): path.read_bytes() + str((path.stat().st_mode, path.stat().st_mtime_ns)).encode()
        for path in sorted(HOME.rglob("*"))
        if path.is_file()
    }


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def disk() -> tuple[int, int]:
    status = os.statvfs("/tmp")
    return (status.f_blocks - status.f_bfree) * status.f_frsize, status.f_files - status.f_ffree


config = ["host"]


async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    def web_search(query: str) -> str:
        return "w" * (4 << 20) if query == "big" else f"result for {query[:50]}"

    def failing_tool(x: str) -> str:
        raise ValueError("boom")

    return {"web_search": web_search, "failing_tool": failing_tool, "get_config": lambda: list(config)}[name](
        *args, **kwargs
    )


async def attempt(sandbox: Any, code: str) -> tuple[Any, Any, float]:
    session = await sandbox.open(tools=["web_search", "get_config", "failing_tool"])
    started = time.monotonic()
    execution = await session.run(code, call_tool=tool)
    return session, execution, time.monotonic() - started


def told(execution: Any) -> str:
    """All that came back, without the snippet's own lines that a traceback shows."""
    error = "\n".join(line for line in execution.error.splitlines() if not line.startswith("  -> "))
    return f"{execution.value!r} {error} {execution.stdout} {execution.stderr} {execution.refused}"


async def judge(sandbox: Any, case: dict[str, Any], processes: Processes, victim: subprocess.Popen[bytes]) -> list[str]:
    broken: set[str] = set()
    checks = set(case["checks"])
    before, rss, used = tree(), memory(), disk()
    reached.clear()
    session, execution, seconds = await attempt(sandbox, case["code"])
    text = told(execution)
    grown, (bytes_used, inodes) = memory() - rss, disk()
    if len(processes.new()) > 64:
        broken.add("procs_bounded")
    if bytes_used - used[0] > 64 << 20 or inodes - used[1] > 5000:
        broken.add("disk")
    if any(Path("/tmp").glob("dropped*")):
        broken.add("no_drop")
    if seconds > WALL_SECONDS + SLACK_SECONDS:
        broken.add("within_wall")
    await asyncio.sleep(0.05)  # by then the session that takes the place of this one in the reserve is made
    ticks = processes.ticks()
    await asyncio.sleep(0.25)  # not a wait for something to happen: what is measured is that nothing does
    if (processes.ticks() - ticks) / os.sysconf("SC_CLK_TCK") > 0.08 * 0.25 + 0.011:
        broken.add("quiet_after")
    await session.close()
    for after in ["6*7", *([case["then"]] if "then" in case else [])]:
        session, execution, _ = await attempt(sandbox, after)
        text += told(execution)
        if not execution.ok or (after == "6*7" and execution.value != 42):
            broken.add("next_ok")
        await session.close()
    if "BREACH" in text:
        broken.add("no_breach")
    if "DECOY-" in text:
        broken.add("no_leak")
    if reached:
        broken.add("no_connect")
    if grown > HOST_GROWTH:
        broken.add("host_mem")
    if tree() != before or victim.poll() is not None or os.stat("/").st_uid not in (0, 65534) or config != ["host"]:
        broken.add("canary")
    return sorted(broken & checks)


async def settled(processes: Processes) -> set[int]:
    """Processes left over; killed ones may take a moment to be reaped."""
    deadline = time.monotonic() + 2
    while (left := processes.new()) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return left


async def quiet(processes: Processes) -> None:
    """Wait until what a case left is cleared up: in `landlock` that takes a moment, and is not the next one's."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        before = processes.ticks()
        await asyncio.sleep(0.03)
        if processes.ticks() <= before:
            return


async def sweep(cases: list[dict[str, Any]], tier: str) -> None:
    from wherry.sandbox import SandboxLimits, get_sandbox

    sandbox = get_sandbox(tier, limits=SandboxLimits(wall_seconds=WALL_SECONDS))
    victim = subprocess.Popen(["sleep", "600"])
    processes = Processes()
    await (await sandbox.open(tools=[])).close()
    await asyncio.sleep(0.3)
    # The launcher with its two ready sessions and their two middle processes of the moment are no leftovers.
    standing = len(processes.all()) + 4
    for case in cases:
        try:
            broken = await judge(sandbox, case, processes, victim)
        except Exception as error:
            broken = [f"host_alive: {type(error).__name__}: {error}"]
        deadline = time.monotonic() + 2
        while len(processes.all()) > standing and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if len(processes.all()) > standing:
            broken.append("no_leftover")
        print(json.dumps({"id": case["id"], "broken": broken}), flush=True)
        await quiet(processes)
    victim.kill()
    await sandbox.close()
    processes.known = {os.getpid()}
    left = {pid for pid in await settled(processes) if pid != 1}
    print(json.dumps({"id": "after close", "broken": ["no_leftover"] if left else []}), flush=True)


def choose(cases: Path) -> list[dict[str, Any]]:
    code = json.loads(cases.read_text())
    chosen = sys.argv[4].split(",") if len(sys.argv) > 4 else None
    return [case for case in code if chosen is None or case["id"] in chosen]


def main() -> None:
    cases, user, tier = sys.argv[1:4]
    guarded = os.environ.get("GUARDED")
    if guarded is None:
        kept = choose(Path(cases))
        read, write = os.pipe()
        with os.fdopen(write, "w") as file:
            threading.Thread(target=lambda: (file.write(json.dumps(kept)), file.close())).start()
            environment = {"GUARDED": "1", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
            command = ["unshare", "-m", "-p", "-n", "-f", "--kill-child"]
            command += [sys.executable, __file__, str(read), user, tier]
            raise SystemExit(subprocess.run(command, env=environment, pass_fds=[read], check=False).returncode)
    if guarded == "container":
        kept = choose(Path(cases))
    else:
        with os.fdopen(int(cases)) as file:
            kept = json.load(file)
    build()
    become(user)
    listen()
    asyncio.run(sweep(kept, tier))


if __name__ == "__main__":
    main()
