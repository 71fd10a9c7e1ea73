"""The project as it is shipped: what its files may hold, what an install brings, what an import does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = {
    # file -> extras and groups that it locks
    "run.txt": ({"local"}, {"example", "build"}),
    "dev.txt": ({"openai", "local", "web"}, {"dev", "example", "build"}),
}


def tracked() -> Iterator[tuple[str, str]]:
    """The project's text files, by their path."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: there is no list of the project's files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                yield name, data.decode("utf-8")


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("the address of a package registry", r"https?://[\w.\-]*(?:pypi|pythonhosted|npmjs|conda|anaconda)[\w.\-]*"),
        ("where packages come from", r"--(?:extra-)?index-url[ =]+\S+:/|--find-links[ =]+\S*/|index-url *= *\S+:/"),
        ("a path of somebody's machine", r"(?<![\w.\-])/(?:roo[t]|hom[e]/\w+|User[s]/\w+|wor[k]|op[t]/pypi)/"),
    ],
)
def test_no_file_holds(what: str, pattern: str) -> None:
    found = [
        f"{name}: {match.group()}"
        for name, text in tracked()
        for match in re.finditer(pattern, text)
        if name != "tests/test_packaging.py"
    ]
    assert not found, what


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
    ours = (path for path in (ROOT / "src").rglob("*.py") if "compat" not in path.parts)  # there the names are others'
    assert not [path for path in ours if path.stem in vague]


def locked(name: str) -> dict[str, list[Version]]:
    """The versions in a lock file by package: several where markers tell them apart."""
    found: dict[str, list[Version]] = {}
    for match in re.finditer(r"^([\w.\-]+)==([^\s;\\]+)", (ROOT / "requirements" / name).read_text("utf-8"), re.M):
        found.setdefault(canonicalize_name(match.group(1)), []).append(Version(match.group(2)))
    return found


def wanted(extras: set[str], groups: set[str]) -> list[Requirement]:
    project, optional = PROJECT["project"], PROJECT["project"]["optional-dependencies"]
    lines: list[str] = [*project["dependencies"]]
    lines += [line for extra in extras for line in optional[extra]]
    lines += [line for group in groups for line in PROJECT["dependency-groups"][group]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_what_the_project_wants(name: str) -> None:
    versions = locked(name)
    for requirement in wanted(*LOCKS[name]):
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement} is not in requirements/{name}; run `make lock`"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in found), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8")
    entries = re.split(r"\n(?=[a-zA-Z])", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    assert len(entries) == sum(len(versions) for versions in locked(name).values())
    assert not [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)]


def test_both_locks_have_the_same_versions() -> None:
    run, dev = locked("run.txt"), locked("dev.txt")
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


def test_the_build_backend_is_locked() -> None:
    backends = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    assert {canonicalize_name(backend.name) for backend in backends} <= locked("run.txt").keys()


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"wherry/py.typed", "wherry/models/local/catalogue.toml", "wherry/cli/__init__.py"} <= names
    folders = {name.split("/")[0] for name in names}
    assert folders == {"wherry", f"wherry-{PROJECT['project']['version']}.dist-info"}
    assert wheel.stat().st_size < 1_250_000


def test_the_version_is_one() -> None:
    import wherry

    assert wherry.__version__ == PROJECT["project"]["version"]


WATCH = """
import json, os, sys
seen = []
def watch(event, arguments):
    acts = ("open", "os.listdir", "os.scandir", "os.mkdir", "socket.connect", "subprocess.Popen", "sqlite3.connect")
    if event in acts:
        seen.append([event, str(arguments[0]), str(arguments[1]) if event == "open" else ""])
before = dict(os.environ)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
from wherry import CodeAgent, ToolCallingAgent, tool
import wherry
watched = list(seen)
light = sorted(sys.modules)
for name in wherry.__all__:
    getattr(wherry, name)
print(json.dumps({
    "seen": watched, "changed": before != dict(os.environ), "path": sys.path, "light": light, "all": sorted(sys.modules)
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, check=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    return cast("dict[str, Any]", json.loads(done.stdout))


OPTIONAL = {
    "openai",
    "litellm",
    "mcp",
    "quicktok",
    "genai_prices",
    "xllamacpp",
    "huggingface_hub",
    "ddgs",
    "pyseccomp",
    "rich",
    "typer",
}


def test_no_public_name_brings_an_optional_dependency(imported: dict[str, Any]) -> None:
    assert OPTIONAL & {name.split(".")[0] for name in imported["all"]} == set()


def test_importing_the_agents_loads_no_client_and_no_command(imported: dict[str, Any]) -> None:
    heavy = {"wherry.models.openai", "wherry.models.litellm", "wherry.models.local.model", "wherry.cli"}
    assert heavy & set(imported["light"]) == set()


def test_importing_the_agents_loads_nothing_that_only_a_run_needs(imported: dict[str, Any]) -> None:
    """What a class needs to be made, and no more: the rest, which is most of it, comes with the first run."""
    light = {name for name in imported["light"] if name.startswith("wherry.")}
    of_runs = {"agents.run", "agents.loop", "agents.hooks", "journal", "context.window", "context.knowledge"}
    assert {f"wherry.{name}" for name in of_runs} & light == set()
    assert len(light) <= 64, sorted(light)


def test_importing_reads_nothing_but_code_and_changes_nothing(imported: dict[str, Any]) -> None:
    assert not imported["changed"]
    code = (".py", ".pyc", ".so", ".zip", ".pth")
    odd = [
        (event, name, mode)
        for event, name, mode in imported["seen"]
        if not (event == "open" and name.endswith(code) and "w" not in mode)
        # The import system looks into the folders of the import path.
        and not (event in ("os.listdir", "os.scandir") and any(name.startswith(folder) for folder in imported["path"]))
        # The standard library's own: entry points and versions of installed distributions are asked for by pydantic.
        and not ("dist-info" in name and "w" not in mode)
    ]
    assert odd == []
