"""The same programs against a real llama.cpp server with a window of 2,048 tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from tests.compat_autogen.test_autogen_seed import GROUP, GROWING, POLICIES, REPORT, TOOL_RESULT, program

from wherry import open_store
from wherry.errors import CatalogueError
from wherry.journal import EventType, read_events
from wherry.models.local import pull
from wherry.models.local.server import ServerSettings, close_all, shared

pytestmark = [pytest.mark.local_model, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    try:
        path = pull("smollm2-135m")
    except CatalogueError as error:
        pytest.skip(f"the model cannot be had here: {error.message}")
    with start_blocking_portal() as portal:
        server = shared(ServerSettings(path, context=2_048, slots=1, threads=2))
        endpoint = portal.call(server.ready)
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        monkeypatch.setenv("OPENAI_API_KEY", endpoint.key)
        url = f"sqlite:///{tmp_path}/runs.db"
        monkeypatch.setenv("WHERRY_STORE", url)
        yield url
    close_all()


def short(text: str) -> str:
    """The program, with replies of a few tokens: it is the requests that matter, and two cores write slowly."""
    return text.replace(
        '"api_key": os.environ["OPENAI_API_KEY"]', '"max_tokens": 6, "api_key": os.environ["OPENAI_API_KEY"]'
    ).replace('"api_key": "..."', '"max_tokens": 6')


def failures(url: str) -> list[str]:
    store = open_store(url)
    runs = [run.run_id for run in store.runs(limit=1_000)]
    assert runs
    kinds = [
        str(event.payload.get("kind"))
        for run in runs
        for event in read_events(store, run)
        if event.type == EventType.MODEL_FAILED
    ]
    store.close()
    return kinds


def test_a_list_that_grows(store: str) -> None:
    space = program(short(GROWING).replace("range(100)", "range(8)"), REPORT=REPORT[:1_100])
    assert len(space["messages"]) == 16
    assert all(message["content"] is not None for message in space["messages"])
    assert failures(store) == []


def test_large_results_and_prompts(store: str, tmp_path: Path) -> None:
    (tmp_path / "CLM-123.json").write_text(
        json.dumps([{"claim": n, "state": "closed", "paid": n} for n in range(120_000)])
    )
    (tmp_path / "all_company_policies.txt").write_text("\n\n".join(f"# {n}\n" + f"Rule {n}. " * 80 for n in range(420)))
    assert isinstance(program(short(TOOL_RESULT), FOLDER=tmp_path)["reply"], str)
    assert isinstance(program(short(POLICIES), FOLDER=tmp_path)["reply"], str)
    assert failures(store) == []


def test_a_group_of_three(store: str) -> None:
    space = program(short(GROUP).replace("max_round=20", "max_round=3"), REPORT=REPORT[:800])
    assert len(space["groupchat"].messages) == 3
    assert failures(store) == []
