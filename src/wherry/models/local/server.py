"""llama.cpp's server as a supervised child process, shared by all agents of this process.

In-process, a fault or an out-of-memory kill in llama.cpp would take the whole program along.
One thread per server starts the child, watches it and reaps it. It must be one thread that lives on: the kernel sends
the parent-death signal when the *thread* that made the child ends (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import http.client
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from wherry.errors import MissingExtra, ModelError, ModelFileError, WherryError
from wherry.models.local.catalogue import free_memory, gigabytes
from wherry.models.local.slots import SlotTable

LOAD_SECONDS = 300.0
HEALTH_SECONDS = 5.0
"""Between two looks at a running server."""
UNHEALTHY_LOOKS = 4
"""Looks in a row that a server may miss before it is taken for hung; short of memory it does not fail, it hangs."""
RESTARTS = 5
RESTART_SECONDS = 60.0
"""A server that died `RESTARTS` times within this time is not started again."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is started with. Equal settings share one server."""

    path: Path
    context: int
    """Tokens per slot."""
    slots: int
    threads: int
    save_memory: bool = False
    """Do not repack the weights: a third less memory, slower prompts."""
    slot_folder: Path | None = None
    """Where the server may save the state of its slots."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is up."""

    url: str
    key: str
    pid: int
    """The child process; another one after a restart."""


def cpu_count() -> int:
    """Cores that this process may use: its affinity, and its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count


class LlamaServer:
    """One child process, started when it is first needed and again after it died.

    Get one by `shared`. Thread-safe; usable from any number of event loops.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._future: Future[Endpoint] | None = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False
        self._log: IO[bytes] | None = None
        self._deaths: deque[float] = deque(maxlen=RESTARTS)
        self._last_death: str | None = None
        self._owner = os.getpid()
        self._holders: set[int] = set()
        self.slots = SlotTable(settings.slots)
        """Which conversation is in which slot."""

    def hold(self, holder: object) -> None:
        """Keep the server up until the holder releases it, or the process ends."""
        with self._lock:
            self._holders.add(id(holder))

    def release(self, holder: object) -> None:
        """Stop the server when this was its last holder."""
        with self._lock:
            self._holders.discard(id(holder))
            if self._holders:
                return
        self.close()

    def start(self) -> Future[Endpoint]:
        """Start the server unless it runs; does not wait for it.

        Raises:
            MissingExtra: xllamacpp is not installed.
            ModelFileError: the file is no longer there.
            ModelError: it keeps dying, or the model is larger than the free memory.
        """
        with self._lock:
            if self._future is not None and not (self._future.done() and self._gone()):
                return self._future
            if find_spec("xllamacpp") is None:
                raise MissingExtra("the embedded model", "local")
            if len(self._deaths) == RESTARTS and time.monotonic() - self._deaths[0] < RESTART_SECONDS:
                raise ModelError(
                    f"the server of {self.settings.path.name} died {RESTARTS} times in {RESTART_SECONDS:.0f} s;"
                    f" last: {self._last_death}",
                    kind="ServerError",
                )
            self._check_memory()
            self._closing = False
            self._owner = os.getpid()
            self.slots = SlotTable(self.settings.slots)
            future: Future[Endpoint] = Future()
            self._future = future
            self._thread = threading.Thread(
                target=self._supervise, args=(future,), name=f"wherry-{self.settings.path.stem}", daemon=True
            )
            self._thread.start()
            return future

    async def ready(self) -> Endpoint:
        """The endpoint of the running server; starts it if need be.

        Raises:
            ModelFileError: the model's file cannot be loaded.
            ModelError: the server did not come up.
        """
        # Shielded: one caller that is cancelled must not take the start away from the others.
        return await asyncio.shield(asyncio.wrap_future(self.start()))

    def death(self, *, wait: float = 0.0) -> str | None:
        """How the server died, if it is dead; None while it is up or was never started.

        Args:
            wait: Seconds that it is given to die, as connections break before the process has ended.
        """
        with self._lock:
            thread = self._thread
        if thread is None:
            return None
        if wait:
            thread.join(wait)
        return None if thread.is_alive() else self._last_death

    @property
    def pid(self) -> int | None:
        """The running child."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it listens, if it is up."""
        future = self._future
        if future is None or not future.done() or future.exception() is not None or self._gone():
            return None
        return future.result()

    def close(self) -> None:
        """Stop the child, if this process started it. `start` starts it again."""
        with self._lock:
            if self._owner != os.getpid():  # a fork holds a copy of us; the child is its parent's
                return
            self._closing = True
            thread, process = self._thread, self._process
            if process is not None:
                process.kill()
        if thread is not None and thread is not threading.current_thread():
            thread.join(10)
        with self._lock:
            if self._closing and self._gone() and self._log is not None:
                self._log.close()
                self._log = None

    def log_tail(self, lines: int = 12) -> str:
        """What the child said last."""
        with self._lock:
            if self._log is None:
                return ""
            size = os.fstat(self._log.fileno()).st_size
            text = os.pread(self._log.fileno(), 16_384, max(0, size - 16_384)).decode("utf-8", "replace")
        return "\n".join(text.strip().splitlines()[-lines:])

    def _check_memory(self) -> None:
        """Refuse what would not fail but hang: a mapped file larger than the memory is read anew for every token."""
        try:
            free, size = free_memory(), self.settings.path.stat().st_size
        except OSError as error:
            raise ModelFileError(f"the model file {self.settings.path} is gone: {error.strerror}") from error
        if free is not None and free < size:
            raise ModelError(
                f"{self.settings.path.name} takes {gigabytes(size)} of memory and more; {gigabytes(free)} are free",
                kind="OutOfMemory",
                hint="free some memory, or take a smaller model",
            )

    def _gone(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    # --- the supervising thread ---

    def _supervise(self, future: Future[Endpoint]) -> None:
        try:
            process, key = self._spawn()
        except (OSError, WherryError) as error:
            future.set_exception(ModelError(f"the server of the embedded model cannot be started: {error}"))
            return
        try:
            address = self._address(process)
            if address is None:
                _ended(process, 2.0)  # so that its own exit code is seen, not that of our kill
                self._end(process)
                future.set_exception(self._load_failure(process.returncode))
                return
            future.set_result(Endpoint(address, key, process.pid))
            self._watch(process, address, key)
        finally:
            self._end(process)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], str]:
        if self._log is not None:
            self._log.close()
        # No name in the file system: it goes away with us, however we end.
        self._log = tempfile.TemporaryFile(prefix="wherry-")  # noqa: SIM115 - lives as long as the server
        key = secrets.token_urlsafe(24)
        with self._lock:
            if self._closing:
                raise ModelError("it was stopped")
            process = subprocess.Popen(
                # By path, not by -m: nothing of wherry is imported. -P keeps this folder out of its sys.path.
                [sys.executable, "-P", str(Path(__file__).with_name("child.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                # Spinning OpenMP threads bring a busy machine from 12 tokens a second to 0.5.
                env={**os.environ, "OMP_WAIT_POLICY": "passive"},
                start_new_session=True,  # Ctrl-C at a terminal is for us; we stop the child
            )
            self._process = process
        settings = {
            "path": str(self.settings.path),
            "context": self.settings.context,
            "slots": self.settings.slots,
            "threads": self.settings.threads,
            "save_memory": self.settings.save_memory,
            "slot_folder": str(self.settings.slot_folder or ""),
            "key": key,
            "parent": os.getpid(),
        }
        assert process.stdin is not None  # noqa: S101 - told to Popen above
        with contextlib.suppress(BrokenPipeError):  # it died already; the answer says so
            process.stdin.write(json.dumps(settings).encode() + b"\n")
            process.stdin.flush()
        return process, key

    def _address(self, process: subprocess.Popen[bytes]) -> str | None:
        """The child's first line; None when it ends without an address, or takes too long."""
        assert process.stdout is not None  # noqa: S101 - told to Popen above
        readable, _, _ = select.select([process.stdout], [], [], LOAD_SECONDS)
        line = process.stdout.readline() if readable else b""
        try:
            answer: dict[str, Any] = json.loads(line)  # Any: what our own child wrote
        except ValueError:
            return None
        if "error" in answer and self._log is not None:
            self._log.write(f"{answer['error']}\n".encode())
        return answer.get("url")

    def _watch(self, process: subprocess.Popen[bytes], address: str, key: str) -> None:
        """Return when the child is dead, hung, or to be stopped."""
        missed = 0
        while not self._closing and not _ended(process, HEALTH_SECONDS):
            missed = 0 if _healthy(address, key) else missed + 1
            if missed >= UNHEALTHY_LOOKS:
                self._last_death = f"it hung: no sign of life for {missed * HEALTH_SECONDS:.0f} s"
                self._deaths.append(time.monotonic())
                return
        if not self._closing:
            self._last_death = self._how_it_ended(process.wait())
            self._deaths.append(time.monotonic())

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    # --- saying what happened ---

    def _how_it_ended(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "it was killed (signal 9), as the system does when memory runs out"
        if code < 0:
            return f"it crashed ({signal.Signals(-code).name})"
        return f"it ended with exit code {code}"

    def _load_failure(self, code: int) -> WherryError:
        name, log = self.settings.path.name, self.log_tail()
        if self._closing:
            return ModelError(f"the server of {name} was stopped", kind="ConnectionLost")
        if any(
            sign in log for sign in ("insufficient memory", "failed to allocate", "unable to allocate", "bad_alloc")
        ):
            return ModelError(
                f"there is too little memory to load {name} with a context of"
                f" {self.settings.context} tokens x {self.settings.slots}:\n{log}",
                kind="OutOfMemory",
                hint="a smaller context, fewer slots, or a smaller model",
            )
        if code == -signal.SIGKILL:
            return ModelError(
                f"the server of {name} was killed while it loaded, as the system does when memory runs out",
                kind="OutOfMemory",
                hint="a smaller context, fewer slots, or a smaller model",
            )
        if "failed to load model" in log:
            return ModelFileError(f"llama.cpp cannot load {self.settings.path}:\n{log}", hint="fetch the file again")
        return ModelError(f"the server of {name} did not start: {self._how_it_ended(code)}\n{log}")


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait this long for a process to end, without waking up in between where the system can."""
    if process.poll() is not None:
        return True
    if not hasattr(os, "pidfd_open"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return process.poll() is not None
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    return process.poll() is not None


def _healthy(address: str, key: str) -> bool:
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health", headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


_servers: dict[ServerSettings, LlamaServer] = {}
_servers_lock = threading.Lock()


def shared(settings: ServerSettings) -> LlamaServer:
    """The server of these settings in this process."""
    with _servers_lock:
        return _servers.setdefault(settings, LlamaServer(settings))


def running() -> Sequence[LlamaServer]:
    """All servers of this process that are up."""
    with _servers_lock:
        return [server for server in _servers.values() if server.pid is not None]


@atexit.register
def close_all() -> None:
    """Stop every server that this process started."""
    with _servers_lock:
        servers = list(_servers.values())
    for server in servers:
        server.close()
