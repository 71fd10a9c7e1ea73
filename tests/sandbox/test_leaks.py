"""However sessions and hosts end, nothing is left of them: no process, descriptor, mount or folder."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from wherry.errors import SandboxUnavailable
from wherry.sandbox import SandboxLimits, Session, cgroups, get_sandbox
from wherry.sandbox.jail import JailSandbox

TIERS = ["namespaces", "landlock"]
CODE = (
    "1",
    "x = bytes(1 << 20)",
    "final_answer(1)",
    "1/0",
    "tool()",
    "import os; os._exit(3)",
    "import os; os.write(3, b'\\xff' * 64)",
    "import os; os.close(3)",
    "import os\nos.makedirs('a/b/c')\nopen('a/b/c/file', 'w').write('x' * 5000)\nos.mkdir('locked', 0)",
    "import os\nfor _ in range(200):\n    os.mkdir('deep'); os.chdir('deep')",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "while True: pass",
)
ENDINGS = ("close", "kill", "forget", "cancel", "interrupt")


def standing() -> tuple[int, int, int]:
    gc.collect()  # sessions of other tests that nobody closed
    mounts = Path("/proc/self/mounts").read_text().count("wherry-")
    return len(os.listdir("/proc/self/fd")), len(psutil.Process().children(recursive=True)), mounts


def risen(before: tuple[int, int, int]) -> list[str]:
    """What there is more of than before, after some time: other tests' loops have descriptors that come and go."""
    found: list[str] = []
    for _ in range(100):
        found = [
            f"{name}: {now}, not {then}"
            for name, now, then in zip(("descriptors", "processes", "mounts"), standing(), before, strict=True)
            if now > then
        ]
        if not found:
            return []
        time.sleep(0.1)
    return found


async def tool(*_: object) -> None:
    return None


async def use(session: Session, code: str, ending: str) -> None:
    task = asyncio.ensure_future(session.run(code, call_tool=tool))
    if "while True" in code or ending in ("cancel", "interrupt"):
        await asyncio.sleep(0.002)  # somewhere in the snippet, or before it, or after
        if ending == "interrupt":
            session.interrupt()
        else:
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.filterwarnings("ignore:unclosed <socket")  # those that were forgotten; the descriptors are closed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_sessions_leave_nothing(count: int, tier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):
            if not os.access(folder, os.X_OK):
                folder.chmod(0o711)

    async def main() -> None:
        sandbox = JailSandbox(tier, SandboxLimits(wall_seconds=3))
        try:
            await anyio.to_thread.run_sync(sandbox.wait_until_up)
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        opened: list[Session] = []
        for _ in range(count):
            session = await sandbox.open(tools=["tool"], variables={"given": 1})
            ending = chance.choice(ENDINGS)
            for _ in range(chance.randrange(3)):
                if session.alive:
                    await use(session, chance.choice(CODE), ending)
            if ending == "kill":
                session.kill()
            if ending == "forget":
                continue
            opened.append(session)
            if len(opened) > chance.randrange(5):
                await opened.pop(0).close()
        await sandbox.close()
        for session in opened:
            await session.close()

    before = standing()
    anyio.run(main)
    assert risen(before) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_launcher_that_dies_is_replaced() -> None:
    async def main() -> None:
        sandbox = JailSandbox("namespaces", SandboxLimits(wall_seconds=3))
        try:
            await anyio.to_thread.run_sync(sandbox.wait_until_up)
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        session = await sandbox.open(tools=[])
        launcher = next(process for process in psutil.Process().children() if process not in others)
        inside = launcher.children(recursive=True)
        launcher.kill()
        assert psutil.wait_procs(inside, timeout=10)[1] == []
        assert (await session.run("1", call_tool=tool)).kind == "killed"
        again = await sandbox.open(tools=[])
        assert (await again.run("6*7", call_tool=tool)).value == 42
        await sandbox.close()

    others = psutil.Process().children()
    anyio.run(main)


HOST = """
import asyncio, json, os, signal, sys
import psutil
from wherry.sandbox import get_sandbox
from wherry.sandbox import SandboxLimits
tier, ending = sys.argv[1:]
async def tool(*_):
    print(json.dumps([p.pid for p in psutil.Process().children(recursive=True)]), flush=True)
    if ending == "raise": raise SystemExit(3)
    if ending == "return": asyncio.get_running_loop().stop()
async def main():
    sandbox = get_sandbox(tier)
    session, _ = await sandbox.open(tools=['tool']), await sandbox.open(tools=[])
    await session.run("open('file', 'w').write('x')", call_tool=tool)
    if ending == "close":
        await tool()
        await sandbox.close()
    else:
        await session.run('tool()\\nwhile True: pass', call_tool=tool)
try:
    asyncio.run(main())
except RuntimeError:
    pass  # the loop was stopped
"""
SIGNALS = {"kill -9": signal.SIGKILL, "ctrl-c": signal.SIGINT, "terminate": signal.SIGTERM, "hang up": signal.SIGHUP}


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("ending", ["close", "return", "raise", *SIGNALS])
def test_nothing_outlives_the_host(tier: str, ending: str, tmp_path: Path) -> None:
    try:
        get_sandbox(tier)
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", HOST, tier, ending]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as host:
        assert host.stdout is not None
        inside: list[Any] = []
        for pid in json.loads(host.stdout.readline()):
            with contextlib.suppress(psutil.NoSuchProcess):
                inside.append(psutil.Process(pid))
        assert inside or ending == "close"
        if ending in SIGNALS:
            host.send_signal(SIGNALS[ending])
        host.wait(20)
    _, alive = psutil.wait_procs(inside, timeout=10)
    assert alive == []
    groups = cgroups.find()
    parents = list(groups.parents) if groups else []

    def left() -> list[Path]:
        return [*tmp_path.iterdir(), *(path for parent in parents for path in parent.glob(f"wherry-{host.pid}-*"))]

    deadline = time.monotonic() + 5
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)  # whoever clears up is nobody's child any more
    assert left() == []


def test_folder_of_a_host_that_could_not_clear_up_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "wherry-jail-left"
    (left / "1" / "deep").mkdir(parents=True)
    (left / "1" / "link").symlink_to(tmp_path)
    (left / "1" / "deep").chmod(0)
    os.utime(left, (0, 0))
    young = tmp_path / "wherry-jail-young"
    young.mkdir()

    async def main() -> None:
        sandbox = JailSandbox("namespaces", SandboxLimits(), reserve=0)
        try:
            await anyio.to_thread.run_sync(sandbox.wait_until_up)
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        finally:
            await sandbox.close()

    anyio.run(main)
    assert list(tmp_path.iterdir()) == [young]
