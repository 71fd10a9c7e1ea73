"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from wherry.errors import SandboxUnavailable

# A shell that puts `make test` in the background lets it, and all that it starts, ignore Ctrl-C: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis measures by the clock how long an example and its making take: on a busy machine that says nothing of the
# code. Examples are the same ones at each run, so that nothing depends on luck; WHERRY_RANDOM=1 draws new ones.
settings.register_profile(
    "wherry",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("WHERRY_RANDOM") != "1",
    print_blob=True,
)
settings.load_profile("wherry")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With WHERRY_CI=1, fail what is skipped because no sandbox can be had: green must mean that they ran."""
    report = yield
    why = None if call.excinfo is None else call.excinfo.value.__context__
    if report.skipped and isinstance(why, SandboxUnavailable) and os.environ.get("WHERRY_CI") == "1":
        report.outcome = "failed"
        report.longrepr = f"WHERRY_CI=1 wants the sandbox's tests to run, and here they cannot: {why.message}"
    return report


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
