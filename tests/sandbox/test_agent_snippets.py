"""Ordinary agent code gives what CPython gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from wherry.errors import SandboxUnavailable
from wherry.sandbox import Sandbox, SandboxLimits, get_sandbox

PACKAGES = ("numpy", "pandas")
"""Snippets of these names import the package of that name."""


async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    if name == "failing_tool":
        raise ValueError("bang")
    return f"result for {(args or list(kwargs.values()))[0]}"


def snippets(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "agent_snippets.json").read_text())


async def run_all(sandbox: Sandbox, cases: list[dict[str, Any]]) -> list[str]:
    """What went otherwise than it should."""
    wrong: list[str] = []
    for case in cases:
        session = await sandbox.open(tools=["web_search", "failing_tool"])
        execution = await session.run(case["code"], call_tool=tool)
        if not execution.ok or case["stdout"] not in (None, execution.stdout):
            wrong.append(f"{case['id']}: {execution}")
        await session.close()
    return wrong


@pytest.mark.slow
def test_ordinary_snippets_print_what_cpython_prints(jail: Sandbox, acceptance: Path) -> None:
    cases = [case for case in snippets(acceptance) if case["id"] not in PACKAGES]
    assert anyio.run(run_all, jail, cases) == []


@pytest.mark.slow
def test_snippets_with_packages_print_what_cpython_prints(acceptance: Path) -> None:
    try:
        sandbox = get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=10), packages=PACKAGES)
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    cases = snippets(acceptance)
    assert {case["id"] for case in cases} >= set(PACKAGES)
    assert anyio.run(run_all, sandbox, cases) == []
