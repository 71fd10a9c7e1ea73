"""The abuse cases, in a guard: as root and as an unprivileged user, in both tiers, on a machine and in a container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.sandbox.containers import AGENT, Engine

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


def sweep(acceptance: Path, user: str, tier: str, chosen: list[str] | None) -> dict[str, list[str]]:
    """Case -> checks that did not hold."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("the guard is built by root, with `unshare`")
    command = [sys.executable, *program(acceptance, user, tier, chosen)]
    return judged(subprocess.run(command, capture_output=True, text=True, timeout=900, check=False), acceptance, chosen)


def sweep_container(acceptance: Path, engine: Engine, user: str, chosen: list[str] | None) -> dict[str, list[str]]:
    done = engine.run_own(
        program(acceptance, user, "landlock", chosen),
        user=AGENT if user == "user" else 0,
        timeout=900,
        mounts=[acceptance.resolve()],
        GUARDED="container",
    )
    return judged(done, acceptance, chosen)


def program(acceptance: Path, user: str, tier: str, chosen: list[str] | None) -> list[str]:
    arguments = [str(GUARD), str((acceptance / "abuse_cases.json").resolve()), user, tier]
    return arguments if chosen is None else [*arguments, ",".join(chosen)]


def judged(done: subprocess.CompletedProcess[str], acceptance: Path, chosen: list[str] | None) -> dict[str, list[str]]:
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    cases: Iterable[object] = chosen or json.loads((acceptance / "abuse_cases.json").read_text())
    assert len(lines) == len(list(cases)) + 1, done.stderr[-2000:]
    return {line["id"]: line["broken"] for line in lines if line["broken"]}


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
@pytest.mark.parametrize("user", ["root", "user"])
def test_cases_of_every_category_hold(acceptance: Path, user: str, tier: str) -> None:
    assert sweep(acceptance, user, tier, QUICK) == {}


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
@pytest.mark.parametrize("user", ["root", "user"])
def test_all_cases_hold(acceptance: Path, user: str, tier: str) -> None:
    assert sweep(acceptance, user, tier, None) == {}


@pytest.mark.parametrize("user", ["root", "user"])
def test_cases_of_every_category_hold_in_a_container(acceptance: Path, engine: Engine, user: str) -> None:
    assert sweep_container(acceptance, engine, user, QUICK) == {}


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "user"])
def test_all_cases_hold_in_a_container(acceptance: Path, engine: Engine, user: str) -> None:
    assert sweep_container(acceptance, engine, user, None) == {}
