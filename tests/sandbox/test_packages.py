"""Package sets: from names to a folder, built once, seen by sessions alone. The index is a folder of tiny wheels."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox.conftest import answer

from wherry import CodeAgent, ScriptedModel, open_store
from wherry.errors import ConfigurationError, SandboxUnavailable
from wherry.journal import EventType, read_events
from wherry.sandbox import SandboxLimits, get_sandbox, package_set
from wherry.sandbox.installers import Uv
from wherry.sandbox.package_names import requirements
from wherry.sandbox.packages import package_sets

pytestmark = pytest.mark.anyio
LIMITS = SandboxLimits(wall_seconds=5)
TEAPOT = "import base_of_pots\nSIZE = base_of_pots.SIZE * 2\nimport threading\nLOADED_IN = threading.get_ident()\n"


def wheel(folder: Path, name: str, version: str, modules: dict[str, str], requires: Sequence[str] = ()) -> None:
    """A wheel as an index would have it."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        **modules,
        f"{stem}.dist-info/METADATA": metadata + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows: list[str] = []
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text)}\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "".join(rows) + f"{stem}.dist-info/RECORD,,\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels as the only index there is, and a cache of the test's own."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "base-of-pots", "1.0", {"base_of_pots.py": "SIZE = 21\n"})
    wheel(wheels, "teapot", "1.0", {"teapot.py": TEAPOT, "tests/__init__.py": ""}, ["base-of-pots"])
    wheel(wheels, "teapot", "2.0", {"teapot.py": TEAPOT + "NEW = True\n"}, ["base-of-pots"])
    wheel(wheels, "PyYAML", "6.0", {"yaml/__init__.py": "def safe_load(text): return {'read': text}\n", "_yaml.py": ""})
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return wheels


@pytest.mark.slow
def test_a_set_is_built_once_with_hashes_and_told_about(index: Path, tmp_path: Path) -> None:
    news: list[str] = []
    made = package_set(["teapot"], progress=news.append)
    assert made is not None
    assert made.modules == ("teapot",)
    assert made.versions == {"base-of-pots": "1.0", "teapot": "2.0"}
    assert (made.folder / "base_of_pots.py").exists()
    assert any(line.startswith("Installing collected packages") for line in news)
    lock = (made.folder.parent / "lock.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lock] == ["base-of-pots==1.0", "teapot==2.0"]
    assert all("--hash=sha256:" in line for line in lock)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in made.folder.rglob("*") if file.is_file()}
    assert modes == {0o444}
    for file in index.iterdir():
        file.unlink()  # from now on nothing can be installed
    assert package_set(["teapot"]) == made
    assert package_sets() == [made]


@pytest.mark.slow
def test_the_same_content_under_two_names_is_one_folder(index: Path) -> None:
    one, other = package_set(["teapot"], progress=print), package_set(["teapot>=2"], progress=print)
    assert one is not None
    assert other is not None
    assert one.folder == other.folder


@pytest.mark.slow
def test_names_mean_the_same_versions_until_they_are_resolved_anew(index: Path) -> None:
    old = package_set(["teapot<3"], progress=print)
    wheel(index, "teapot", "2.5", {"teapot.py": TEAPOT}, ["base-of-pots"])
    assert package_set(["teapot<3"]) == old
    new = package_set(["teapot<3"], progress=print, upgrade=True)
    assert new is not None
    assert new.versions["teapot"] == "2.5"
    assert package_set(["teapot<3"]) == new


@pytest.mark.slow
def test_a_file_that_is_not_what_was_locked_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wherry.sandbox import installers

    lock = installers.Pip.lock

    def locked_then_changed(self: installers.Pip, specifiers: Sequence[str], progress: installers.Progress) -> str:
        text = lock(self, specifiers, progress)
        wheel(index, "teapot", "2.0", {"teapot.py": "print('other')"}, ["base-of-pots"])
        return text

    monkeypatch.setattr(installers.Pip, "lock", locked_then_changed)
    with pytest.raises(SandboxUnavailable, match=r"(?i)hash"):
        package_set(["teapot"], progress=print)
    assert package_sets() == []


@pytest.mark.slow
def test_two_at_once_build_one(index: Path) -> None:
    news: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(package_set, ["teapot"], progress=news.append) for _ in range(2)]
        one, other = (build.result() for build in builds)
    assert one == other
    assert sum(line.startswith("Installing") for line in news) == 1


@pytest.mark.slow
def test_what_a_killed_build_left_is_no_set_and_in_nobodys_way(index: Path) -> None:
    made = package_set(["teapot"], progress=print)
    assert made is not None
    final = made.folder.parent
    final.rename(final.with_suffix(".building"))
    (final.with_suffix(".building") / "half").write_text("")
    again = package_set(["teapot"], progress=print)
    assert again == made
    assert not (final / "half").exists()
    assert not final.with_suffix(".building").exists()


@pytest.mark.slow
def test_an_unknown_package_is_named_with_what_the_installer_said(index: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="no_such_pot") as caught:
        package_set(["no_such_pot"])
    assert "check the name" in (caught.value.hint or "")


@pytest.mark.slow
def test_an_index_that_does_not_answer_is_said(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(SandboxUnavailable) as caught:
        package_set(["other_pot"])
    assert "the index did not answer" in (caught.value.hint or "")
    assert "secret" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_said(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SandboxUnavailable, match="cannot be kept"):
        package_set(["teapot"])


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["namespaces", "landlock", "unsafe"])
async def test_sessions_import_it_and_nothing_of_the_application(index: Path, tier: str) -> None:
    try:
        sandbox = get_sandbox(tier, limits=LIMITS, packages=["teapot"])
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    session = await sandbox.open(tools=[])
    assert (await session.run("import teapot\nteapot.SIZE", call_tool=answer)).value == 42
    missing = await session.run("import pydantic", call_tool=answer)
    assert "Only the standard library and teapot can be imported here" in missing.error
    close = await session.run("import teapots", call_tool=answer)
    assert "Did you mean 'teapot'?" in close.error
    if tier != "unsafe":
        written = await session.run("open(teapot.__file__, 'w')", call_tool=answer)
        assert "Error" in written.error
    await session.close()
    await sandbox.close()


@pytest.mark.slow
async def test_packages_are_imported_before_any_session(index: Path) -> None:
    try:
        sandbox = get_sandbox("auto", limits=LIMITS, packages=["teapot"])
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    session = await sandbox.open(tools=[])
    found = await session.run("import sys\n'teapot' in sys.modules", call_tool=answer)
    assert found.value is True
    await sandbox.close()


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_refused_with_its_reason(index: Path) -> None:
    wheel(index, "cracked", "1.0", {"cracked.py": "raise RuntimeError('it leaks')\n"})
    with pytest.raises(SandboxUnavailable, match="'cracked' cannot be used here: RuntimeError: it leaks"):
        get_sandbox("auto", limits=LIMITS, packages=["cracked"])
    assert get_sandbox("auto", limits=LIMITS).tier  # the tier itself is not to blame


@pytest.mark.slow
def test_import_names_find_their_distribution(index: Path) -> None:
    made = package_set(["yaml"], progress=print)
    assert made is not None
    assert made.modules == ("yaml",)
    assert made.versions == {"PyYAML": "6.0"}


@pytest.mark.slow
def test_a_distributions_name_finds_its_modules(index: Path) -> None:
    made = package_set(["base-of-pots>=1", "PyYAML>=6"], progress=print)
    assert made is not None
    assert made.modules == ("yaml", "base_of_pots")


@pytest.mark.slow
def test_uv_gives_the_same(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    made = package_set(["teapot"], progress=print)
    assert made is not None
    assert made.versions == {"base-of-pots": "1.0", "teapot": "2.0"}
    assert "--hash=sha256:" in Uv(str(uv)).lock(["teapot"], print)
    with pytest.raises(SandboxUnavailable, match="no-such-pot") as caught:
        package_set(["no-such-pot"])
    assert "check the name" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("names", "specifiers"),
    [
        (["numpy", "pandas"], ["numpy", "pandas"]),
        (["os", "json", "os.path", "re.*"], []),
        (["sklearn", "PIL", "cv2", "yaml"], ["PyYAML", "opencv-python-headless", "pillow", "scikit-learn"]),
        (["matplotlib.pyplot", "numpy.*"], ["matplotlib", "numpy"]),
        (["pandas>=2,<4", "sklearn >= 1.3"], ["pandas>=2,<4", "scikit-learn>= 1.3"]),
        (["uvicorn[standard]==0.30.*"], ["uvicorn[standard]==0.30.*"]),
    ],
)
def test_what_is_asked_of_the_index(names: list[str], specifiers: list[str]) -> None:
    assert [requirement.specifier for requirement in requirements(names)] == specifiers


@pytest.mark.parametrize(
    "name",
    ["*", "../pot", "/etc", "-e", "--index-url=x", "pot@file:///x", "git+https://x", "pot;x", "pot>=1,", "pot>=", "-"],
)
def test_what_is_no_package_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="authorized_imports"):
        requirements([name])


@given(st.text(max_size=30))
def test_no_name_becomes_an_option_a_path_or_an_address(name: str) -> None:
    try:
        found = requirements([name])
    except ConfigurationError:
        return
    for requirement in found:
        assert requirement.specifier[0].isalnum() or requirement.specifier[0] == "_"
        assert not set(requirement.specifier) & set("/\\:;@\n\r\t\0'\"")


@pytest.mark.slow
async def test_an_agent_is_told_what_it_can_import_and_its_user_what_was_missing(index: Path) -> None:
    model = ScriptedModel(["```python\nimport kettle\n```", "```python\nimport teapot\nfinal_answer(teapot.SIZE)\n```"])
    store = open_store("memory://")
    try:
        agent = CodeAgent(model=model, authorized_imports=["teapot", "math"], store=store)
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    result = await agent.arun("How large is it?")
    assert result.output == 42
    assert "Beside the standard library you can import teapot." in model.requests[0].messages[0].content
    assert "Only the standard library and teapot can be imported" in model.requests[1].messages[-1].content
    assert any("'kettle', which is not in the sandbox" in warning for warning in result.warnings)
    hints = [e.payload["hint"] for e in read_events(store, result.run_id) if e.type is EventType.WARNING]
    assert "authorized_imports=['kettle'] makes it importable" in hints


@pytest.mark.slow
def test_a_build_without_anybody_who_watches_says_so_once(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    package_set(["teapot"])
    package_set(["teapot"])
    assert [record.message for record in caplog.records] == [
        "installing teapot for the sandbox; `wherry sandbox prepare teapot` does it in advance"
    ]


@pytest.mark.slow
def test_a_folder_named_pip_where_the_user_stands_is_not_run(index: Path, tmp_path: Path) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").write_text("")
    (tmp_path / "pip" / "__main__.py").write_text("raise SystemExit('not the installer')")
    code = "from wherry.sandbox import package_set; print(package_set(['teapot'], progress=lambda line: None).modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "('teapot',)", done.stderr


def agent_with(names: Sequence[str]) -> object:
    return CodeAgent(authorized_imports=names)


@pytest.mark.parametrize("ask", [requirements, package_set, agent_with])
def test_one_text_is_not_taken_for_names_of_one_letter(ask: Callable[[str], object]) -> None:
    with pytest.raises(ConfigurationError, match="'numpy' is one text"):
        ask("numpy")
