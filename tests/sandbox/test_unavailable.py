"""Where no jail can be built, that is said at once and in full, and nothing runs without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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

if sys.argv[1] == "no-landlock":
    import pyseccomp
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.add_rule(pyseccomp.ERRNO(38), "landlock_create_ruleset")
    rules.load()
told = []
for name in ("namespaces", "auto"):
  for make in (lambda: get_sandbox(name), lambda: CodeAgent(model=ScriptedModel([]), sandbox=name)):
      try:
          made = make()
          told.append([name, getattr(made, "tier", ""), ""])
      except SandboxUnavailable as error:
          told.append([name, error.message, error.hint])
tiers = {tier.name: tier.available for tier in probe().tiers}
left = [process.name() for process in psutil.Process().children(recursive=True)]
print(json.dumps({"told": told, "tiers": tiers, "best": probe().best, "left": left}))
"""


def without(tmp_path: Path, what: str) -> dict[str, Any]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    command = [sys.executable, "-c", WITHOUT, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == NO_NAMESPACES:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("wherry-*"))
    seen: dict[str, Any] = json.loads(done.stdout)
    for name, message, hint in seen["told"]:
        if name == "namespaces" or what == "no-landlock":
            assert "`namespaces` does not work here" in message
            assert "no new namespace can be made (user)" in message
            assert "user.max_user_namespaces" in hint
            assert 'sandbox="unsafe"' in hint
    return seen


def test_without_user_namespaces_landlock_is_what_auto_takes(tmp_path: Path) -> None:
    seen = without(tmp_path, "no-namespaces")
    if not seen["tiers"]["landlock"]:
        pytest.skip("no Landlock on this machine")
    assert seen["tiers"]["namespaces"] is False
    assert seen["best"] == "landlock"
    assert ["auto", "landlock", ""] in seen["told"]


def test_without_any_jail_nothing_is_built_and_the_ways_out_are_named(tmp_path: Path) -> None:
    seen = without(tmp_path, "no-landlock")
    assert len(seen["told"]) == 4
    assert all("`landlock` does not work here" in message for name, message, _ in seen["told"] if name == "auto")
    assert (seen["tiers"]["namespaces"], seen["tiers"]["landlock"]) == (False, False)
    assert seen["best"] is None
    assert seen["left"] == []


@pytest.mark.parametrize(
    "first", ["import wherry.agents.code_agent", "from wherry.sandbox import RecordedCall, TierReport"]
)
def test_names_that_load_late_are_what_they_say_in_any_order(first: str) -> None:
    code = (
        f"{first}\nimport types, wherry.sandbox as s\nfrom wherry.agents import code_agent\n"
        "loose = [n for n in s.__all__ if isinstance(getattr(s, n), types.ModuleType)]\n"
        "assert not loose, loose\nassert callable(code_agent.rebuild)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
