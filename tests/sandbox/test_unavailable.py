"""Where no jail can be built, that is said at once and in full, and nothing runs without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NO_NAMESPACES = 77
WITHOUT = """
import ctypes, json, os, sys
users, groups = os.getuid(), os.getgid()
try:
    if ctypes.CDLL(None).unshare(0x10000000) < 0:
        raise OSError("no user namespace here")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {users} 1"), ("gid_map", f"0 {groups} 1")):
        open(f"/proc/self/{name}", "w").write(text)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")  # of this namespace, and of no other
except OSError as error:
    print(error)
    sys.exit(77)

import psutil
from wherry import CodeAgent
from wherry.errors import SandboxUnavailable
from wherry.models import ScriptedModel
from wherry.sandbox import get_sandbox, probe

told = []
for make in (get_sandbox, lambda: get_sandbox("namespaces"), lambda: CodeAgent(model=ScriptedModel([]))):
    try:
        make()
    except SandboxUnavailable as error:
        told.append([error.message, error.hint])
tiers = {tier.name: tier.available for tier in probe().tiers}
left = [process.name() for process in psutil.Process().children(recursive=True)]
print(json.dumps({"told": told, "tiers": tiers, "best": probe().best, "left": left}))
"""


def test_without_user_namespaces_nothing_is_built_and_the_ways_out_are_named(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == NO_NAMESPACES:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen["told"]) == 3
    for message, hint in seen["told"]:
        assert "`namespaces` does not work here" in message
        assert "no new namespace can be made (user)" in message
        assert "user.max_user_namespaces" in hint
        assert 'sandbox="unsafe"' in hint
    assert seen["tiers"] == {"namespaces": False, "unsafe": True}
    assert seen["best"] is None
    assert seen["left"] == []
    assert not list(tmp_path.glob("wherry-*"))
