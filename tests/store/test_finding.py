"""Runs are found by what is known of them and by what was said in them, on every store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.journal import EventType, Journal, RunJournal
from wherry.journal.finding import Found, RunFilter, catch_up, find_runs
from wherry.journal.retention import prune
from wherry.messages import Message, ToolCall
from wherry.store import Batch, RunRow, Store, open_store


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/w.db"}
    opened = open_store(urls.get(request.param) or request.getfixturevalue("postgres_url"))
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Iterator[Store]:
    opened = open_store("memory://")
    yield opened
    opened.close()


def said(
    store: Store,
    *words: str,
    task: str = "a task",
    answer: str | None = "done",
    parent: RunJournal | None = None,
    agent: str = "a",
    session: str | None = None,
) -> RunJournal:
    """A run in which things were said; without an answer it goes on."""
    journal = Journal.start(store, agent=agent, parent=parent)
    journal.record(EventType.RUN_STARTED, task=task, session=session, model=f"model of {agent}")
    say(journal, "You are always the same system prompt.", *words)
    if answer is not None:
        journal.record(EventType.RUN_FINISHED, status="completed", output=answer, ref=None)
    asyncio.run(journal.commit())
    return journal


def say(journal: RunJournal, *words: str) -> None:
    roles = ("system", "user", "assistant")
    names = [journal.keep(Message(roles[min(n, 2)], text)) for n, text in enumerate(words)]  # pyright: ignore[reportArgumentType]
    journal.record(EventType.MODEL_REQUESTED, keep=0, add=names)


def find(store: Store, query: str, *, limit: int = 20, **wanted: object) -> list[Found]:
    catch_up(store)
    return find_runs(store, query, RunFilter(**wanted), limit=limit)  # pyright: ignore[reportArgumentType]


def ids(found: list[Found]) -> list[str]:
    return [one.run.run_id for one in found]


def test_a_run_is_found_by_all_that_was_said_in_it(store: Store) -> None:
    journal = said(store, "Where is Timbuktu?", "In Mali, says the Straße atlas.", task="Geography", answer=None)
    call = ToolCall("1", "lookup", {"place": "Ouagadougou"})
    reply = journal.keep(Message("assistant", "", tool_calls=[call]))
    journal.record(EventType.MODEL_REPLIED, message=reply)
    journal.record(EventType.TOOL_RETURNED, call="1", name="lookup", ok=True, preview="Burkina Faso", ref=None)
    large = store.artifacts.put(b"page " * 3000 + b"Bobo-Dioulasso", media_type="text/plain", run_id=journal.run_id)
    journal.record(EventType.CONTEXT_OFFLOADED, ref=large.ref)
    journal.record(EventType.RUN_FINISHED, status="completed", output={"capital": "北京是中国的首都"}, ref=None)
    asyncio.run(journal.commit())
    said(store, "something else")
    for query, kind in {
        "geography": "task",
        "timbuktu": "user",
        "strasse": "assistant",
        "ouagadougou": "assistant",
        "burkina": "result",
        "dioulasso": "artifact",
        "中国": "answer",
    }.items():
        (found,) = find(store, query)
        assert (found.run.run_id, found.place.run_id, found.place.kind) == (journal.run_id, journal.run_id, kind), query
    assert len(find(store, "dioulasso")[0].text) <= 4000
    assert find(store, "system prompt") == []
    assert find(store, "nowhere") == []


def test_what_is_new_is_found_and_what_was_read_is_not_read_again(store: Store) -> None:
    first = said(store, "alpha")
    assert ids(find(store, "alpha")) == [first.run_id]
    assert catch_up(store).runs == 0
    second = said(store, "alpha beta", answer=None)
    assert catch_up(store).runs == 1
    assert set(ids(find(store, "alpha"))) == {first.run_id, second.run_id}
    assert catch_up(store).runs == 0
    say(second, "", "gamma")
    asyncio.run(second.commit())
    assert ids(find(store, "gamma")) == [second.run_id]
    second.record(EventType.RUN_FINISHED, status="completed", output="delta", ref=None)
    asyncio.run(second.commit())
    assert ids(find(store, "delta")) == [second.run_id]
    assert ids(find(store, "gamma")) == [second.run_id]
    assert catch_up(store).runs == 0


def test_reading_goes_on_where_the_time_was_up(store: Store) -> None:
    runs = [said(store, f"word{n} common").run_id for n in range(4)]
    runs.append(said(store, "word4 common", answer=None).run_id)
    for n in range(4):
        progress = catch_up(store, seconds=0)
        assert (progress.runs, progress.complete) == (1, False), n
    catch_up(store)
    assert set(ids(find_runs(store, "common", RunFilter()))) == set(runs)
    assert catch_up(store, seconds=60).complete


def test_a_child_is_found_as_the_run_at_its_top(store: Store) -> None:
    top = said(store, "nothing", agent="boss", answer=None)
    child = said(store, "needle", agent="helper", parent=top)
    top.record(EventType.RUN_FINISHED, status="completed", output="needles, too", ref=None)
    asyncio.run(top.commit())
    (found,) = find(store, "needle", agent="boss")
    assert found.run.run_id == top.run_id
    assert set(ids(find(store, "needle", children=True))) == {top.run_id, child.run_id}
    assert ids(find(store, "needle", children=True, agent="helper")) == [child.run_id]
    assert ids(find(store, "needle", parent=top.run_id)) == [child.run_id]
    assert ids(find(store, "needle", model="model of boss")) == [top.run_id]
    assert find(store, "needle", agent="nobody") == []


def test_filters_reach_behind_the_best_hits(memory: Store) -> None:
    for _ in range(250):
        said(memory, "needle needle needle")
    wanted = said(memory, "a needle in a much longer text about hay and other things", agent="b", session="s")
    assert ids(find(memory, "needle", agent="b")) == [wanted.run_id]
    assert ids(find(memory, "needle", session="s")) == [wanted.run_id]
    assert len(find(memory, "needle", limit=7)) == 7


def test_what_is_pruned_is_found_no_more(store: Store, tmp_path: Path) -> None:
    gone = said(store, "the old secret", session="s", task="secret task")
    top = said(store, "kept", answer=None)
    assert ids(find(store, "secret")) == [gone.run_id]
    assert prune(store, session="s").runs == [gone.run_id]
    assert find(store, "secret") == []
    top.record(EventType.RUN_FINISHED, status="completed", output="x", ref=None)
    asyncio.run(top.commit())
    assert find(store, "secret") == []
    assert ids(find(store, "kept")) == [top.run_id]
    store.close()
    for file in tmp_path.glob("w.db*"):
        if file.is_file():
            assert b"secret" not in file.read_bytes()


def test_a_damaged_message_hides_only_itself(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/w.db")
    run_id = said(store, "alpha", "beta").run_id
    with sqlite3.connect(tmp_path / "w.db") as other:
        other.execute("UPDATE messages SET body = x'7b22' WHERE instr(body, 'alpha')")
        other.execute("UPDATE events SET body = 'x' WHERE type = 'run.finished'")
    other.close()
    assert ids(find(store, "beta")) == [run_id]
    assert find(store, "alpha") == []
    store.close()


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(text=texts, query=texts)
def test_any_text_is_said_and_asked_for(memory: Store, text: str, query: str) -> None:
    said(memory, text, task=text, answer=text)
    catch_up(memory)
    for found in find_runs(memory, query, RunFilter(children=True)):
        assert found.text


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    wanted=st.builds(
        RunFilter,
        session=st.sampled_from([None, "s", "ö\ud800\0"]),
        status=st.sampled_from([None, "running", "completed", "waiting"]),
        agent=st.sampled_from([None, "a", "ö\ud800\0"]),
        model=st.sampled_from([None, "m"]),
        since=st.sampled_from([None, 2.0, 5.0]),
        before=st.sampled_from([None, 5.0, 9.0]),
        parent=st.sampled_from([None, "r0"]),
        children=st.booleans(),
    )
)
def test_a_filter_matches_what_it_lists(memory: Store, wanted: RunFilter) -> None:
    for n in range(12):
        row = RunRow(
            f"r{n}",
            parent_run_id=[None, "r0", None][n % 3],
            agent=["a", "ö\ud800\0"][n % 2],
            status=["running", "completed", "waiting", "running"][n % 4],
            session=[None, "s", "ö\ud800\0"][n // 4],
            model=["m", None][n // 6],
            started=float(n),
            finished=None if n % 4 == 0 else 99.0,
        )
        memory.append(Batch(run=row)).result()
    every = memory.runs(limit=99, children=True)
    assert wanted.rows(memory, limit=99) == [row for row in every if wanted.matches(row)]
