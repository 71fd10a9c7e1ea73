"""The abuse cases, in a guard: as root and as an unprivileged user, in both tiers, on a machine and in a container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


GUARDS = 3
"""Side by side, where all cases are tried: they mostly wait for a time limit."""


def sweep(acceptance: Path, user: str, tier: str, chosen: list[str] | None) -> dict[str, list[str]]:
    """Case -> checks that did not hold."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("the guard is built by root, with `unshare`")

    def guarded(part: list[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *program(acceptance, user, tier, part)]
        return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)

    return in_parts(guarded, acceptance, chosen)


def sweep_container(acceptance: Path, engine: Engine, user: str, chosen: list[str] | None) -> dict[str, list[str]]:
    def contained(part: list[str]) -> subprocess.CompletedProcess[str]:
        return engine.run_own(
            program(acceptance, user, "landlock", part),
            user=AGENT if user == "user" else 0,
            timeout=900,
            mounts=[acceptance.resolve()],
            GUARDED="container",
        )

    return in_parts(contained, acceptance, chosen)


def in_parts(
    run: Callable[[list[str]], subprocess.CompletedProcess[str]], acceptance: Path, chosen: list[str] | None
) -> dict[str, list[str]]:
    """The cases in guards side by side, each with its share; all that did not hold."""
    parts = [chosen] if chosen is not None else [all_cases(acceptance)[first::GUARDS] for first in range(GUARDS)]
    with ThreadPoolExecutor(len(parts)) as pool:
        found = [judged(done, part) for done, part in zip(pool.map(run, parts), parts, strict=True)]
    return {case: broken for one in found for case, broken in one.items()}


def all_cases(acceptance: Path) -> list[str]:
    return [case["id"] for case in json.loads((acceptance / "abuse_cases.json").read_text())]


def program(acceptance: Path, user: str, tier: str, chosen: list[str]) -> list[str]:
    return [str(GUARD), str((acceptance / "abuse_cases.json").resolve()), user, tier, ",".join(chosen)]


def judged(done: subprocess.CompletedProcess[str], chosen: list[str]) -> dict[str, list[str]]:
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(chosen) + 1, done.stderr[-2000:]
    return {line["id"]: line["broken"] for line in lines if line["broken"]}


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
@pytest.mark.parametrize("user", ["root", "user"])
def test_cases_of_every_category_hold(acceptance: Path, user: str, tier: str) -> None:
    assert sweep(acceptance, user, tier, QUICK) == {}


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
@pytest.mark.parametrize("user", ["root", "user"])
def test_all_cases_hold(acceptance: Path, user: str, tier: str) -> None:
    assert sweep(acceptance, user, tier, None) == {}


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "user"])
def test_cases_of_every_category_hold_in_a_container(acceptance: Path, engine: Engine, user: str) -> None:
    assert sweep_container(acceptance, engine, user, QUICK) == {}


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "user"])
def test_all_cases_hold_in_a_container(acceptance: Path, engine: Engine, user: str) -> None:
    assert sweep_container(acceptance, engine, user, None) == {}
