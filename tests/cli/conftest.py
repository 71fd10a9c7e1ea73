"""The command, for the tests of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.command import AGENTS, Command


@pytest.fixture
def wherry(tmp_path: Path) -> Command:
    (tmp_path / "agents.py").write_text(AGENTS, encoding="utf-8")
    return Command(tmp_path)
