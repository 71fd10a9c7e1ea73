"""`wherry doctor` without a run, and `wherry sandbox`: what this machine can do, and getting ready for it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.cli.command import Command
from tests.sandbox.test_packages import wheel
from tests.sandbox.test_unavailable import NO_NAMESPACES

from wherry.sandbox import NAMES, probe

WITHOUT = """
import ctypes, os, sys
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
os.execv(sys.executable, [sys.executable, "-m", "wherry", *sys.argv[1:]])
"""


@pytest.fixture
def index(wherry: Command, tmp_path: Path) -> Path:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "teapot", "1.0", {"teapot.py": "SIZE = 1\n"})
    settings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }
    wherry.environment |= {**settings, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return wheels


@pytest.mark.slow
def test_the_machine_is_described(wherry: Command) -> None:
    done = wherry("doctor")
    best = probe().best
    assert done.returncode == (0 if best else 1), done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == (f"sandbox: code runs in the tier {best}" if best else first)
    told = {line.split()[0] for line in lines if line.startswith("  ") and line.strip()}
    assert {"namespaces", "landlock", "docker", "wasm", "monty", "unsafe"} <= told
    assert {"kernel", "Landlock", "wall_seconds", "memory_bytes"} <= told
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.slow
def test_for_machines(wherry: Command) -> None:
    found = json.loads(wherry("doctor", "--json").stdout)["sandbox"]
    assert found["auto"] == probe().best
    assert {tier["name"] for tier in found["tiers"]} == {name for name in NAMES if name not in ("auto", "docker:IMAGE")}
    assert all(tier["works"] or tier["note"] for tier in found["tiers"])
    assert all(layer["works"] or layer["note"] for layer in found["layers"])
    assert found["limits"]["tool_calls"] == 100
    assert found["packages"] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_without_user_namespaces_it_is_said_which_setting_forbids_them(wherry: Command) -> None:
    import subprocess

    command = [sys.executable, "-c", WITHOUT, "doctor", "--json"]
    done = subprocess.run(
        command, env=wherry.environment, cwd=wherry.folder, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == NO_NAMESPACES:
        pytest.skip(done.stdout.strip())
    found = json.loads(done.stdout)["sandbox"]
    tiers = {tier["name"]: tier for tier in found["tiers"]}
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert not tiers["namespaces"]["works"]
    assert tiers["namespaces"]["hint"]
    assert "user.max_user_namespaces = 0" in layers["user namespaces"]["note"]
    assert found["auto"] in (None, "landlock")
    assert done.returncode == (1 if found["auto"] is None else 0)


def test_doctor_of_a_run_is_another_thing(wherry: Command) -> None:
    done = wherry("doctor", "no-such-run")
    assert done.returncode == 1
    assert "no run's id begins with" in done.stderr


@pytest.mark.slow
def test_packages_are_prepared_and_listed(wherry: Command, index: Path) -> None:
    if probe().best is None:
        pytest.skip("no tier works here")
    done = wherry("sandbox", "prepare", "teapot", "json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ready: teapot (teapot 1.0; ")
    assert f"imported in the tier {probe().best}" in done.stdout
    assert "Installing collected packages: teapot" in done.stderr
    again = wherry("sandbox", "prepare", "teapot")
    assert again.returncode == 0
    assert again.stderr == ""
    assert "teapot==1.0" in wherry("sandbox", "list").stdout
    listed = json.loads(wherry("sandbox", "list", "--json").stdout)
    assert listed["versions"] == {"teapot": "1.0"}
    assert json.loads(wherry("doctor", "--json").stdout)["sandbox"]["packages"] == [listed]


@pytest.mark.slow
def test_newer_versions_are_taken_when_asked_for(wherry: Command, index: Path) -> None:
    wherry("sandbox", "prepare", "teapot")
    wheel(index, "teapot", "2.0", {"teapot.py": "SIZE = 2\n"})
    assert "teapot 1.0" in wherry("sandbox", "prepare", "teapot").stdout
    assert "teapot 2.0" in wherry("sandbox", "prepare", "teapot", "--upgrade").stdout
    assert "teapot 2.0" in wherry("sandbox", "prepare", "teapot").stdout


def test_names_of_the_standard_library_need_nothing(wherry: Command) -> None:
    assert "nothing to prepare" in wherry("sandbox", "prepare", "json", "os.path").stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code", "told"), [("no-such-pot", 1, "check the name"), ("../pot", 2, "no package")])
def test_what_cannot_be_prepared_is_told(wherry: Command, index: Path, name: str, code: int, told: str) -> None:
    done = wherry("sandbox", "prepare", name)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_without_names_the_sandbox_is_tried(wherry: Command) -> None:
    done = wherry("sandbox", "prepare")
    if probe().best is None:
        assert done.returncode == 1
    else:
        assert done.stdout == f"the sandbox works here: tier {probe().best}\n"
