"""The abuse cases, in a guard: as root and as an unprivileged user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).with_name("guard.py")
QUICK = [
    "files-read-ssh-key",
    "files-write-python-lib",
    "env-os-environ",
    "net-urllib",
    "net-unix-abstract",
    "net-vsock-create",
    "net-x32-abi-socket",
    "proc-fork",
    "proc-setrlimit-raise",
    "kernel-unshare-user",
    "kernel-clone-newuser",
    "mem-shared-anon-mmap",
    "disk-fill-workdir",
    "disk-many-files",
    "disk-cross-session-file",
    "output-os-write-flood",
    "proto-forge-huge-frame",
    "proto-forge-tool-call",
    "proto-os-exit",
    "proto-huge-return",
    "tools-flood",
    "tamper-builtins-print",
    "escape-subclasses-walk",
]
"""One or more of each category, without those that take their whole two seconds."""


def sweep(acceptance: Path, user: str, chosen: list[str] | None) -> dict[str, list[str]]:
    """Case -> checks that did not hold."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("the guard is built by root, with `unshare`")
    command = [sys.executable, str(GUARD), str(acceptance / "abuse_cases.json"), user, "namespaces"]
    if chosen is not None:
        command.append(",".join(chosen))
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(chosen or json.loads((acceptance / "abuse_cases.json").read_text())) + 1, done.stderr[
        -2000:
    ]
    return {line["id"]: line["broken"] for line in lines if line["broken"]}


@pytest.mark.parametrize("user", ["root", "user"])
def test_cases_of_every_category_hold(acceptance: Path, user: str) -> None:
    assert sweep(acceptance, user, QUICK) == {}


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "user"])
def test_all_cases_hold(acceptance: Path, user: str) -> None:
    assert sweep(acceptance, user, None) == {}
