"""`wherry mcp`: an agent for the clients of MCP."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wherry import mcp_tools
from wherry.cli.app import app

AGENT = """
from wherry import ScriptedModel, ToolCallingAgent

agent = ToolCallingAgent(model=ScriptedModel(["forty-two"]), name="thinker", description="Thinks.")
"""


@pytest.mark.slow
@pytest.mark.anyio
async def test_over_standard_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "thinking.py").write_text(AGENT)
    command = [sys.executable, "-m", "wherry", "mcp", "thinking.py:agent", "--store", "memory://"]
    async with mcp_tools(command, cwd=tmp_path, connect_seconds=60) as server:
        assert await server.tools["thinker"].call({"task": "Think."}) == "forty-two"


def test_an_address_that_is_open_to_everybody(tmp_path: Path) -> None:
    (tmp_path / "thinking.py").write_text(AGENT)
    where = f"{tmp_path / 'thinking.py'}:agent"
    found = CliRunner().invoke(app, ["mcp", where, "--store", "memory://", "--http", "8000", "--host", "0.0.0.0"])
    assert found.exit_code == 2
    assert "whatever anybody asks" in found.stderr


def test_an_agent_that_is_not_there() -> None:
    found = CliRunner().invoke(app, ["mcp", "nowhere.py:agent"])
    assert found.exit_code == 2
