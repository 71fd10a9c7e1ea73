"""What continuous integration may not skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
from wherry.errors import SandboxUnavailable

@pytest.fixture
def jail():
    try:
        raise SandboxUnavailable("no user namespaces")
    except SandboxUnavailable as error:
        pytest.skip(error.message)

def test_in_the_jail(jail):
    pass

def test_that_asks_itself():
    try:
        raise SandboxUnavailable("no user namespaces")
    except SandboxUnavailable as error:
        pytest.skip(error.message)

def test_without_something_else():
    pytest.skip("no acceptance cases")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "code", "counted"),
    [("", 0, "3 skipped"), ("1", 1, "1 failed, 1 skipped, 1 error")],
)
def test_a_missing_jail_is_no_reason_to_skip_where_ci_says_so(
    tmp_path: Path, variable: str, code: int, counted: str
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "WHERRY_CI": variable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert counted in done.stdout
    assert ("here they cannot: no user namespaces" in done.stdout) == bool(variable)
