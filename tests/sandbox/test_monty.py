"""The tier `monty`: a part of Python in a worker process, under the same limits and with the same answers."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.sandbox.conftest import answer

from wherry import CodeAgent, ScriptedModel
from wherry.errors import ConfigurationError, MissingExtra, SandboxError
from wherry.sandbox import SandboxLimits, Session, get_sandbox, monty

pytest.importorskip("pydantic_monty")
pytestmark = pytest.mark.anyio
LIMITS = SandboxLimits(wall_seconds=1, memory_bytes=32 << 20)


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    opened = await get_sandbox("monty", limits=LIMITS).open(tools=["echo", "fail"], variables={"given": {"a": [1]}})
    yield opened
    await opened.close()


async def test_an_agent_runs_in_it() -> None:
    replies = ["```python\nx = 6 * 7\nprint(x)\n```", "```python\nfinal_answer(x)\n```"]
    result = await CodeAgent(model=ScriptedModel(replies), sandbox="monty", store="memory://").arun("What is it?")
    assert result.output == 42


async def test_values_of_many_types_go_in_and_out(session: Session) -> None:
    async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return {"day": datetime.date(2026, 1, 2), "raw": b"\x00", "args": args}

    ran = await session.run("r = echo((1, 2.5), given)\n[r['day'], r['raw'], r['args'], {1, 2}]", call_tool=tool)
    assert ran.value == [datetime.date(2026, 1, 2), b"\x00", [[1, 2.5], {"a": [1]}], {1, 2}]


async def test_a_result_that_cannot_be_had_in_there_is_a_tool_error(session: Session) -> None:
    from wherry.sandbox.inside.arrays import Array

    async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return Array(dtype="<i4", shape=(1,), data=b"\x01\x00\x00\x00")

    ran = await session.run("try:\n    echo()\nexcept ToolError as error:\n    r = str(error)\nr", call_tool=tool)
    assert "no Array in the tier `monty`" in ran.value
    with pytest.raises(ConfigurationError, match="a variable cannot be had"):
        await get_sandbox("monty").open(tools=[], variables={"rows": Array("<i4", (0,), b"")})


@pytest.mark.parametrize("code", ["open('/etc/passwd')", "import socket", "import subprocess", "__import__('os')"])
async def test_what_is_not_in_there(session: Session, code: str) -> None:
    ran = await session.run(code, call_tool=answer)
    assert ran.kind == "exception"
    assert (await session.run("given", call_tool=answer)).value == {"a": [1]}


async def test_memory_is_limited_and_the_session_lives(session: Session) -> None:
    ran = await session.run("x = 'y' * (40 << 20)", call_tool=answer)
    assert ran.kind == "memory"
    assert (await session.run("1", call_tool=answer)).value == 1


async def test_a_timeout_of_the_snippets_own_is_an_exception(session: Session) -> None:
    ran = await session.run("raise TimeoutError('my own')", call_tool=answer)
    assert ran.kind == "exception"


@pytest.mark.slow
async def test_time_in_a_tool_is_not_the_snippets(session: Session) -> None:
    import anyio

    async def slow(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        await anyio.sleep(1.3)  # longer than the limit
        return "done"

    ran = await session.run("echo()", call_tool=slow)
    assert ran.value == "done"
    assert ran.cpu_seconds < 1


@pytest.mark.slow
async def test_the_sessions_time_is_limited() -> None:
    limits = SandboxLimits(wall_seconds=30, cpu_seconds=1)
    session = await get_sandbox("monty", limits=limits).open(tools=["echo"])
    assert (await session.run("echo()\n1", call_tool=answer)).value == 1
    ran = await session.run("while True: pass", call_tool=answer)
    assert ran.kind == "timeout"
    assert "used up its 1 s" in ran.error
    assert not session.alive
    await session.close()


async def test_a_worker_that_dies_is_told(session: Session) -> None:
    async def kill(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        for child in workers():
            os.kill(child.pid, signal.SIGKILL)

    ran = await session.run("echo()\n1", call_tool=kill)
    assert ran.kind == "killed"
    assert "All variables are lost" in ran.error
    with pytest.raises(SandboxError, match="dead"):
        await session.run("1", call_tool=answer)


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "monty" in child.name()]


async def test_no_worker_is_left() -> None:
    sandbox = get_sandbox("monty", limits=LIMITS)
    opened = [await sandbox.open(tools=[]) for _ in range(3)]
    assert len(workers()) >= 3
    await opened[0].close()
    await sandbox.close()
    assert not any(session.alive for session in opened)
    psutil.wait_procs(workers(), timeout=5)
    assert workers() == []


async def test_files_and_packages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigurationError, match="has no files"):
        await get_sandbox("monty").open(tools=[], files=[tmp_path / "a.txt"])
    with pytest.raises(ConfigurationError, match=r"has no packages \(numpy\)"):
        get_sandbox("monty", packages=["numpy", "json"])


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(monty, "find_spec", nothing)
    with pytest.raises(MissingExtra, match="'monty'"):
        get_sandbox("monty")
