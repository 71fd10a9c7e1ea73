"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def acceptance() -> Path:
    """The folder of outside acceptance cases; they are not part of the project, so users' machines lack them."""
    folder = Path(__file__).parents[2] / "shared" / "acceptance"
    if not folder.is_dir():
        pytest.skip(f"no acceptance cases at {folder}")
    return folder
