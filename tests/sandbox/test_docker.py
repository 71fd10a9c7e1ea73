"""The tier `docker`, in a real engine, and what is refused where an engine does not keep what it was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.conftest import answer
from tests.sandbox.containers import Engine

from wherry.errors import SandboxUnavailable
from wherry.sandbox import Sandbox, SandboxLimits, get_sandbox
from wherry.testing import check_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
LIMITS = SandboxLimits(wall_seconds=1, memory_bytes=128 << 20, disk_bytes=8 << 20, inodes=50, threads=4)


@pytest.fixture
def here(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return engine


@pytest.fixture
def sandbox(here: Engine) -> Sandbox:
    return get_sandbox(f"docker:{here.image}", limits=LIMITS)


def left(engine: Engine) -> str:
    return engine.call("ps", "--all", "--quiet").stdout


def wait_until_gone(engine: Engine) -> None:
    deadline = time.monotonic() + 20
    while left(engine) and time.monotonic() < deadline:
        time.sleep(0.1)  # the engine removes it in its own time, and tells nobody
    assert left(engine) == ""


async def test_conforms_and_leaves_no_container(here: Engine, sandbox: Sandbox) -> None:
    await check_sandbox(lambda: sandbox)
    assert left(here) == ""


async def test_the_walls_are_there(sandbox: Sandbox) -> None:
    session = await sandbox.open(tools=["echo"])
    host = await session.run(
        """
import os, socket

def attempt(action):
    try:
        return f"did: {action()}"
    except Exception as error:
        return type(error).__name__

def names():
    return [line.split(":")[0].strip() for line in open("/proc/self/net/dev") if ":" in line]

def many():
    open_files = [open(f"f{n}", "w") for n in range(60)]

[os.getuid(), attempt(lambda: open("/x", "w")), attempt(lambda: os.setuid(0)), attempt(os.fork),
 attempt(lambda: socket.socket(40, socket.SOCK_STREAM)), attempt(names),
 attempt(lambda: socket.create_connection(("8.8.8.8", 53), 1)), attempt(many),
 attempt(lambda: open("large", "wb").write(bytes(20 << 20))), attempt(lambda: bytearray(400 << 20)),
 dict(os.environ).keys() >= {"PATH"}, attempt(lambda: open("/wherry/inside/x", "w"))]
""",
        call_tool=answer,
    )
    assert host.value == [
        65534,
        "OSError",
        "OSError",
        "OSError",
        "OSError",
        "did: ['lo']",
        "OSError",
        "OSError",
        "OSError",
        "MemoryError",
        True,
        "OSError",
    ]
    threads = "import threading, time\nfor n in range(9): threading.Thread(target=time.sleep, args=[9]).start()"
    assert "can't start new thread" in (await session.run(threads, call_tool=answer)).error
    await session.close()


async def test_what_c_code_prints_breaks_no_frame(sandbox: Sandbox) -> None:
    session = await sandbox.open(tools=[])
    ran = await session.run("import os\nos.write(1, b'x' * 100)\nos.write(2, b'y')\n42", call_tool=answer)
    assert ran.value == 42
    await session.close()


async def test_files_come_out_also_of_a_killed_session(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("abc")
    session = await sandbox.open(tools=[], files=[tmp_path / "given.txt"])
    code = (
        "open('made.txt', 'w').write(open('given.txt').read().upper())\nimport os, signal\nos.kill(1, signal.SIGUSR1)"
    )
    await session.run(code, call_tool=answer)
    stuck = await session.run(
        "import time, signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\ntime.sleep(60)", call_tool=answer
    )
    assert stuck.kind == "timeout"
    assert not session.alive
    assert {file.name: file.data for file in (await session.collect_files()).files}["made.txt"] == b"ABC"
    await session.close()


async def test_an_interrupt_reaches_the_container(sandbox: Sandbox) -> None:
    session = await sandbox.open(tools=["echo"])

    async def interrupting(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        session.interrupt()

    ran = await session.run("echo()\nwhile True: pass", call_tool=interrupting)
    assert ran.kind == "timeout"
    assert "interrupted" in ran.error
    assert (await session.run("1", call_tool=answer)).value == 1
    await session.close()


def test_an_image_that_is_not_here_is_not_downloaded(here: Engine) -> None:
    with pytest.raises(SandboxUnavailable, match="not on this machine") as caught:
        get_sandbox("docker:nowhere.invalid/none:1")
    assert "wherry sandbox prepare docker:nowhere" in (caught.value.hint or "")


def test_an_engine_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "echo 'Cannot connect to the Docker daemon' >&2\nexit 1\n", monkeypatch)
    with pytest.raises(SandboxUnavailable, match="does not answer: Cannot connect"):
        get_sandbox("docker:unreachable")


def test_without_an_engine_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="needs the command `docker`"):
        get_sandbox("docker")


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `docker` of the test's own, first on the PATH."""
    file = folder / "docker"
    file.write_text(f"#!/bin/sh\n{text}")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("dropped", "told"),
    [
        ("--memory=*|--memory-swap=*", "memory_bytes"),
        ("--pids-limit=*", "threads"),
        ("--read-only", "a read-only root"),
        ("--cap-drop=ALL", "no capabilities"),
        ("--security-opt=no-new-privileges", "no-new-privileges"),
        ("--user=*", "a user other than root"),
        ("--tmpfs=*", "a work folder of its own"),
    ],
)
def test_a_wall_that_an_engine_forgets_is_refused(
    here: Engine, dropped: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command between us and the engine that drops one option: what an engine without cgroups does with a warning."""
    rest = 'for a do shift; case "$a" in ' + dropped + ') ;; *) set -- "$@" "$a";; esac; done\n'
    program(tmp_path, f'{rest}exec {here.docker} "$@"\n', monkeypatch)
    limits = SandboxLimits(wall_seconds=1, memory_bytes=129 << 20)  # looked at anew, not known from before
    with pytest.raises(SandboxUnavailable, match="does not keep") as caught:
        get_sandbox(f"docker:{here.image}", limits=limits)
    assert told in caught.value.message
    wait_until_gone(here)


HOST = """
import anyio, sys
from wherry.sandbox import SandboxLimits, get_sandbox

async def main():
    session = await get_sandbox(sys.argv[1], limits=SandboxLimits(wall_seconds=60)).open(tools=[])
    print("open", flush=True)
    await session.run("while True: pass", call_tool=None)

anyio.run(main)
"""


def test_a_host_that_is_killed_leaves_no_container(here: Engine) -> None:
    command = [sys.executable, "-c", HOST, f"docker:{here.image}"]
    host = subprocess.Popen(command, env=here.environment, stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout:
        assert host.stdout.readline() == b"open\n"
        host.send_signal(signal.SIGKILL)
        host.wait(20)
    wait_until_gone(here)
