"""Limits that cannot be, copies of the host made by fork, and sandboxes that another thread closes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from wherry.errors import ConfigurationError, SandboxError, SandboxUnavailable
from wherry.sandbox import SandboxLimits, get_sandbox, probing
from wherry.sandbox.child_link import WorkPlace
from wherry.sandbox.links import Link

USUAL = SandboxLimits()


async def tool(*_: object) -> None:
    return None


@pytest.mark.parametrize(
    "limit",
    [
        {"descriptors": 5},
        {"memory_bytes": 1000},
        {"disk_bytes": 1},
        {"cpu_seconds": 2**70},
        {"stdout_bytes": 10**13},
        {"wall_seconds": float("inf")},
        {"stdout_bytes": 1 << 16, "disk_bytes": 1 << 16},
    ],
)
def test_limit_that_no_session_can_have_is_named(limit: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(limit))}`"):
        SandboxLimits(**limit)


class Failing:
    """A jail that cannot be built under some limits."""

    fails: Callable[[SandboxLimits], SandboxError | None]
    started = 0

    def __init__(self, name: str, limits: SandboxLimits, *, packages: object = None) -> None:
        self.tier, self.limits, self.closed = name, limits, False
        type(self).started += 1

    def wait_until_up(self) -> None:
        error = type(self).fails(self.limits)
        if error is not None:
            raise error

    def check(self) -> None: ...
    def close_now(self) -> None: ...
    def forget(self) -> None: ...


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    class Jail(Failing):
        pass

    monkeypatch.setattr(probing, "JailSandbox", Jail)
    monkeypatch.setattr(probing, "_jails", {})
    monkeypatch.setattr(probing, "_refusals", {})
    return Jail


def test_limits_that_fail_do_not_make_the_tier_unavailable(failing: type[Failing]) -> None:
    failing.fails = lambda limits: None if limits == USUAL else SandboxError("no such limit")
    with pytest.raises(SandboxUnavailable, match="not with these limits: no such limit"):
        probing.get_jail("auto", SandboxLimits(descriptors=60_000))
    assert probing.get_jail("namespaces", USUAL).tier == "namespaces"
    assert probing.get_jail("auto", SandboxLimits()).tier == "namespaces"


@pytest.mark.parametrize(
    ("message", "minutes", "attempts"),
    [("session: [Errno 12] Cannot allocate memory", 2, 2), ("no namespaces", 999, 1)],
)
def test_failure_of_a_moment_is_not_kept_for_ever(
    failing: type[Failing], message: str, minutes: int, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing.fails = lambda limits: SandboxError(message)
    start = time.monotonic()
    for passed in (0, 1, 60 * minutes):
        now = start + passed
        monkeypatch.setattr(probing, "_now", lambda now=now: now)
        with pytest.raises(SandboxUnavailable, match="does not work here"):
            probing.get_jail("namespaces", USUAL)
    assert failing.started == attempts


def test_link_is_let_go_of_though_another_thread_held_it_at_the_fork() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, os.open(os.devnull, os.O_RDONLY))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with link._lock:  # pyright: ignore[reportPrivateUsage]  # as a fork in the middle of a call finds it
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    forgetter = threading.Thread(target=link.forget, daemon=True)
    forgetter.start()
    forgetter.join(5)
    hung = forgetter.is_alive()
    done.set()
    holder.join(20)
    theirs.close()
    assert not hung


FORK_WHILE_STARTING = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
from wherry.sandbox import get_sandbox, probing
from wherry.sandbox.jail import JailSandbox
reached, go = threading.Event(), threading.Event()
real = JailSandbox.wait_until_up
def slow(self):
    reached.set()
    go.wait(20)
    real(self)
JailSandbox.wait_until_up = slow
starter = threading.Thread(target=get_sandbox, args=(sys.argv[1],))
starter.start()
reached.wait(20)
pid = os.fork()
if pid == 0:
    JailSandbox.wait_until_up = real
    sandbox = get_sandbox(sys.argv[1])
    probing._close_all()
    os._exit(0)
deadline = time.monotonic() + 20
while os.waitpid(pid, os.WNOHANG) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(pid, 9)
        sys.exit("the copy hangs")
    time.sleep(0.01)
go.set()
starter.join(20)
import anyio
async def main():
    session = await get_sandbox(sys.argv[1]).open(tools=[])
    assert (await session.run("6 * 7", call_tool=None)).value == 42
anyio.run(main)
"""


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_copy_of_a_host_that_was_starting_a_jail_starts_its_own(tier: str) -> None:
    try:
        get_sandbox(tier)
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    command = [sys.executable, "-c", FORK_WHILE_STARTING, tier]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


FORK_UNSAFE = """
import anyio, atexit, os, sys, warnings
warnings.simplefilter("ignore")
from wherry.sandbox import get_sandbox
async def main():
    session = await get_sandbox("unsafe").open(tools=[])
    await session.run("open('kept', 'w').write('x')", call_tool=None)
    pid = os.fork()
    if pid == 0:
        if "release" in sys.argv:
            session._link.release()
        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(pid, 0)
    assert (await session.run("open('kept').read()", call_tool=None)).value == "x"
    await session.close()
anyio.run(main)
"""


@pytest.mark.parametrize("ending", ["exit", "release"])
def test_copy_of_a_host_leaves_the_folder_of_an_unsafe_session(ending: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK_UNSAFE, ending]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


KILLED = """
import anyio, os
from wherry.sandbox import get_sandbox
async def main():
    session = await get_sandbox("unsafe").open(tools=[])
    await session.run("open('left', 'w').write('x')", call_tool=None)
    os.kill(os.getpid(), 9)
anyio.run(main)
"""


def test_folder_of_an_unsafe_session_whose_host_was_killed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = WorkPlace()
    assert [str(path) for path in tmp_path.iterdir()] == [place.path]
    assert os.stat(place.path).st_mode & 0o777 == 0o700
    place.remove()
    assert list(tmp_path.iterdir()) == []


def test_sandbox_closed_by_another_thread_ends_runs_at_once() -> None:
    running = threading.Event()

    async def started(*_: object) -> None:
        running.set()

    async def main() -> None:
        sandbox = get_sandbox("unsafe", limits=SandboxLimits(wall_seconds=60))
        session = await sandbox.open(tools=["started"])
        task = asyncio.ensure_future(session.run("started()\nwhile True: pass", call_tool=started))
        await anyio.to_thread.run_sync(running.wait)
        await anyio.to_thread.run_sync(lambda: asyncio.run(sandbox.close()))
        execution = await asyncio.wait_for(task, 10)
        assert execution.kind == "killed"
        assert not session.alive
        await session.close()

    anyio.run(main)
