"""Real servers for the tests: PostgreSQL and Redis, started in a folder of their own on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

WAIT = 30.0
"""Seconds that a server may take to come up or go down."""


def find(program: str) -> str | None:
    """A program's path; Debian keeps PostgreSQL's out of the way."""
    found = shutil.which(program)
    if found is None:
        versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: path.parts[-3])
        found = str(versions[-1]) if versions else None
    return found


@contextmanager
def folder(kind: str) -> Generator[Path]:
    """A folder that other users may enter. Not pytest's: that one is closed again by every session that begins."""
    path = Path(tempfile.mkdtemp(prefix=f"wherry-{kind}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PostgresServer:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        programs = [find(name) for name in ("initdb", "pg_ctl")]
        if None in programs:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        self._initdb, self._pg_ctl = (str(program) for program in programs)
        self._data = folder / "data"
        self.port = free_port()
        self.url = f"postgresql://wherry@127.0.0.1:{self.port}/postgres"
        self._as: Sequence[str] = ()
        if os.geteuid() == 0:  # the server refuses to run as root
            if shutil.which("runuser") is None or subprocess.run(["id", "postgres"], capture_output=True).returncode:
                pytest.skip("PostgreSQL does not run as root, and there is no user `postgres` to run it as")
            shutil.chown(folder, "postgres")
            self._as = ("runuser", "-u", "postgres", "--")
        self._run(self._initdb, "-D", str(self._data), "-U", "wherry", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            # Nothing here outlives a crash of the machine; that commits are durable is PostgreSQL's word.
            settings.write(f"fsync = off\nlisten_addresses = '127.0.0.1'\nport = {self.port}\n")
            settings.write(f"unix_socket_directories = '{folder}'\nmax_connections = 60\n")
        self.start()

    def start(self) -> None:
        log = str(self._data.parent / "log")
        self._run(self._pg_ctl, "start", "-D", str(self._data), "-l", log, "-w", "-t", str(int(WAIT)))

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is a crash."""
        self._run(self._pg_ctl, "stop", "-D", str(self._data), "-m", mode, "-w", "-t", str(int(WAIT)))

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self._as, *command], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert done.returncode == 0, (command, done.stderr.decode())


class RedisServer:
    """A server that keeps what it was told before it answers."""

    def __init__(self, folder: Path) -> None:
        program = find("redis-server")
        if program is None:
            pytest.skip("Redis is not installed: apt-get install redis-server")
        self._command = [program, "--dir", str(folder), "--port", "0", "--appendonly", "yes", "--appendfsync", "always"]
        self.port = free_port()
        self._command[4] = str(self.port)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, "Redis does not come up"
            assert self._process.poll() is None, "Redis has ended"
            time.sleep(0.02)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(WAIT)
