"""Ordinary agent code gives what CPython gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio

from wherry.sandbox import Sandbox


async def tool(name: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    if name == "failing_tool":
        raise ValueError("bang")
    return f"result for {(args or list(kwargs.values()))[0]}"


def test_ordinary_snippets_print_what_cpython_prints(jail: Sandbox, acceptance: Path) -> None:
    snippets = [s for s in json.loads((acceptance / "agent_snippets.json").read_text()) if s["id"] not in PACKAGES]

    async def main() -> list[str]:
        wrong: list[str] = []
        for snippet in snippets:
            session = await jail.open(tools=["web_search", "failing_tool"])
            execution = await session.run(snippet["code"], call_tool=tool)
            if not execution.ok or snippet["stdout"] not in (None, execution.stdout):
                wrong.append(f"{snippet['id']}: {execution}")
            await session.close()
        return wrong

    assert anyio.run(main) == []


PACKAGES = ("numpy", "pandas")
"""Snippets that import packages; the sandbox has the standard library."""
