"""What the catalogue knows, and which model it chooses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wherry.errors import CatalogueError, ModelFileError, ModelNotConfigured
from wherry.models.local import LocalModel
from wherry.models.local.catalogue import catalogue, choose, entry, free_memory, path, recommended

GB = 1_000_000_000


def test_every_entry_is_whole() -> None:
    for known in catalogue():
        assert re.fullmatch(r"[0-9a-f]{64}", known.sha256)
        assert sum(part.data for part in known.parts) == known.size
        assert all(re.fullmatch(r"[0-9a-f]{64}", part.sha256) for part in known.parts)
        assert all("==" in part.requirement for part in known.parts)


def test_no_address_is_in_the_catalogue() -> None:
    import wherry.models.local

    for file in Path(wherry.models.local.__path__[0]).iterdir():
        if file.is_file():
            assert "://" not in file.read_text().replace("http://127.0.0.1", "")


def here(*names: str) -> None:
    """Pretend that models were downloaded; only their size is looked at."""
    for name in names:
        known = entry(name)
        known.path.parent.mkdir(parents=True, exist_ok=True)
        with known.path.open("wb") as file:
            file.truncate(known.size)


@pytest.mark.parametrize(
    ("memory", "name"),
    [(3 * GB, "qwen2.5-coder-1.5b"), (3 * GB - 1, "qwen2.5-coder-0.5b"), (1.5 * GB, "qwen2.5-coder-0.5b")],
)
def test_the_best_that_fits_the_memory_is_chosen(data_home: Path, memory: float, name: str) -> None:
    here("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")
    assert choose(int(memory)).name == name
    assert recommended(int(memory)).name == name


def test_only_downloaded_models_are_chosen(data_home: Path) -> None:
    here("qwen2.5-coder-0.5b", "smollm2-135m")
    assert choose(64 * GB).name == "qwen2.5-coder-0.5b"


def test_too_little_memory_is_said(data_home: Path) -> None:
    here("qwen2.5-coder-1.5b")
    with pytest.raises(ModelNotConfigured, match=r"1\.0 GB of memory are free.*qwen2\.5-coder-1\.5b 3\.0 GB"):
        choose(GB)
    with pytest.raises(ModelNotConfigured):
        recommended(GB)


def test_without_any_model_the_choices_and_their_costs_are_said(data_home: Path) -> None:
    with pytest.raises(ModelNotConfigured) as caught:
        LocalModel()
    text = str(caught.value)
    assert "qwen2.5-coder-1.5b   download  1.1 GB, needs 3.0 GB of free memory" in text
    assert "qwen2.5-coder-0.5b   download  478 MB, needs 1.5 GB of free memory" in text
    assert "wherry models pull" in text


def test_a_named_model_that_is_not_here_says_how_to_get_it(data_home: Path) -> None:
    with pytest.raises(ModelNotConfigured, match=r"wherry models pull smollm2-135m .download 93 MB."):
        LocalModel("smollm2-135m")


def test_a_file_of_the_wrong_size_is_not_the_model(data_home: Path) -> None:
    here("smollm2-135m")
    assert path("smollm2-135m") is not None
    entry("smollm2-135m").path.write_bytes(b"GGUF")
    assert path("smollm2-135m") is None
    with pytest.raises(CatalogueError):
        path("unheard-of")


def test_a_path_to_no_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    with pytest.raises(ModelFileError, match="no model file"):
        LocalModel(file)
    file.write_text("not a model")
    with pytest.raises(ModelFileError, match="no GGUF"):
        LocalModel(str(file))


def test_free_memory_is_a_number_here() -> None:
    memory = free_memory()
    assert memory is None or memory > 0
