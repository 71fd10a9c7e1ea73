"""Recording, reading back, and finding what was tampered with."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.errors import RunNotFound, StoreError
from wherry.journal import (
    Break,
    Event,
    EventType,
    Journal,
    RunJournal,
    genesis,
    messages_of_request,
    read_events,
    verify,
    verify_store,
)
from wherry.journal.run_ids import new_run_id
from wherry.messages import Message, ToolCall, canonical
from wherry.store import Batch, RunRow, Store, open_store

odd = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(["\ud83d\ude00", "\x00", "\ud800"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd, inner, max_size=3),
    max_leaves=8,
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    odd,
    tool_calls=st.lists(st.builds(ToolCall, odd, odd, st.dictionaries(odd, values, max_size=2)), max_size=2),
    tool_call_id=st.none() | odd,
    name=st.none() | odd,
)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store("memory://")
    yield opened
    opened.close()


def commit(journal: RunJournal) -> None:
    asyncio.run(journal.commit())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    agent=odd,
    payloads=st.lists(
        st.dictionaries(odd.filter(lambda k: k not in ("add", "message")), values, max_size=4), min_size=1, max_size=5
    ),
)
def test_what_is_recorded_is_what_is_read(store: Store, agent: str, payloads: list[dict[str, Any]]) -> None:
    journal = Journal.start(store, agent=agent)
    told: list[Event] = []
    journal.subscribe(told.append)
    recorded = [journal.record(EventType.RUN_STARTED, task="t")]
    recorded += [journal.record(EventType.WARNING, **payload) for payload in payloads]
    commit(journal)
    assert list(read_events(store, journal.run_id)) == recorded == told
    assert verify(store, journal.run_id) is None


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.tuples(st.floats(0, 1), st.lists(messages, max_size=3)), min_size=1, max_size=5))
def test_every_request_can_be_shown_again(store: Store, requests: list[tuple[float, list[Message]]]) -> None:
    journal = Journal.start(store, agent="a")
    journal.record(EventType.RUN_STARTED, task="t")
    sent: list[list[Message]] = []
    current: list[Message] = []
    for share, added in requests:
        keep = int(share * len(current))
        current = current[:keep] + added
        journal.record(EventType.MODEL_REQUESTED, keep=keep, add=[journal.keep(m) for m in added])
        sent.append(current)
    commit(journal)
    for n, expected in enumerate(sent, 1):
        shown = messages_of_request(store, journal.run_id, n)
        assert [m.encode() for m in shown] == [m.encode() for m in expected]
    for n in (0, len(sent) + 1):
        with pytest.raises(ValueError, match=f"no request {n}"):
            messages_of_request(store, journal.run_id, n)
    assert verify(store, journal.run_id) is None


def test_nan_is_kept(store: Store) -> None:
    journal = Journal.start(store, agent="a")
    journal.record(EventType.RUN_STARTED, task="t", score=math.nan, most=math.inf)
    commit(journal)
    (event,) = read_events(store, journal.run_id)
    assert math.isnan(event.payload["score"])
    assert event.payload["most"] == math.inf


def test_the_chain_is_over_the_canonical_record(store: Store) -> None:
    from hashlib import sha256

    journal = Journal.start(store, agent='a"\ud800')
    for n in range(3):
        journal.record(EventType.RUN_STARTED if n == 0 else EventType.WARNING, n=n)
    commit(journal)
    before = genesis(journal.run_id, None)
    for row, event in zip(store.events(journal.run_id), read_events(store, journal.run_id), strict=True):
        record = {
            "agent": event.agent,
            "payload_sha256": sha256(canonical(event.payload)).hexdigest(),
            "run_id": event.run_id,
            "seq": event.seq,
            "time": event.time,
            "type": event.type.value,
        }
        before = sha256(before + canonical(record)).digest()
        assert row.hash == before


@pytest.mark.parametrize(
    "bad", [object(), {1, 2}, b"bytes", {("a",): 1}, 10**5000], ids=["object", "set", "bytes", "tuple key", "huge"]
)
def test_a_value_that_is_not_json_is_named(store: Store, bad: object) -> None:
    journal = Journal.start(store, agent="a")
    journal.record(EventType.RUN_STARTED, task="t")
    with pytest.raises(TypeError, match="`culprit` of a `warning` event"):
        journal.record(EventType.WARNING, good=1, culprit=bad)
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(TypeError, match="culprit"):
        journal.record(EventType.WARNING, culprit=cycle)
    assert journal.record(EventType.WARNING, fine=1).seq == 2


def test_the_run_is_listed_from_its_first_to_its_last_event(store: Store) -> None:
    journal = Journal.start(store, agent="boss")
    journal.record(EventType.RUN_STARTED, task="x" * 5000, session="s")
    commit(journal)
    row = store.run(journal.run_id)
    assert (row.agent, len(row.task), row.session, row.status, row.finished) == ("boss", 2000, "s", "running", None)
    journal.record(EventType.RUN_FINISHED, status="failed", usage={"requests": 2})
    commit(journal)
    row = store.run(journal.run_id)
    assert (row.status, row.usage, row.session) == ("failed", {"requests": 2}, "s")
    assert row.finished is not None
    with pytest.raises(RunNotFound):
        read_events(store, "nobody")


def test_children_share_the_subscribers_and_have_chains_of_their_own(store: Store) -> None:
    told: list[Event] = []
    parent = Journal.start(store, agent="boss", subscribers=[told.append])
    parent.record(EventType.RUN_STARTED, task="t")
    child = parent.child("helper")
    child.record(EventType.RUN_STARTED, task="u")
    end = child.subscribe(lambda event: told.append(event))
    child.record(EventType.WARNING, message="m")
    end()
    parent.record(EventType.WARNING, message="m")
    commit(parent)
    commit(child)
    assert [(e.agent, e.seq) for e in told] == [("boss", 1), ("helper", 1), ("helper", 2), ("helper", 2), ("boss", 2)]
    assert store.run(child.run_id).parent_run_id == parent.run_id == told[1].parent_run_id
    assert [row.run_id for row in store.runs()] == [parent.run_id]
    assert verify(store, parent.run_id) is verify(store, child.run_id) is None


def test_a_subscriber_that_raises_is_dropped_with_one_warning(store: Store) -> None:
    told: list[EventType] = []

    def broken(event: Event) -> None:
        raise ZeroDivisionError("oh")

    journal = Journal.start(store, agent="a", subscribers=[broken, lambda event: told.append(event.type)])
    journal.record(EventType.RUN_STARTED, task="t")
    journal.record(EventType.LIMIT_REACHED, limit="usd", value=1)
    assert told == [EventType.RUN_STARTED, EventType.WARNING, EventType.LIMIT_REACHED]
    commit(journal)
    assert "ZeroDivisionError: oh" in list(read_events(store, journal.run_id))[1].payload["message"]


def test_a_message_goes_to_the_store_once(store: Store) -> None:
    journal = Journal.start(store, agent="a")
    journal.record(EventType.RUN_STARTED, task="t")
    first = journal.keep(Message("user", "hello"))
    commit(journal)
    assert journal.keep(Message("user", "hello")) == first
    assert Message.decode(store.message(first)) == Message("user", "hello")


def test_a_journal_goes_on_behind_its_last_record(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/w.db"
    store = open_store(url)
    parent = Journal.start(store, agent="boss")
    parent.record(EventType.RUN_STARTED, task="t")
    first = parent.child("helper")
    first.record(EventType.RUN_STARTED, task="u", session="s")
    commit(parent)
    commit(first)
    store.close()
    again = open_store(url)
    told: list[Event] = []
    one, two = (Journal.go_on(again, first.run_id, subscribers=[told.append]) for _ in range(2))
    one.record(EventType.WARNING, message="went on")
    commit(one)
    two.record(EventType.WARNING, message="too late")
    with pytest.raises(StoreError, match="record 2"):
        commit(two)
    one.record(EventType.RUN_FINISHED, status="completed")
    commit(one)
    assert [event.seq for event in told] == [2, 2, 3]
    assert verify_store(again).breaks == []
    row = again.run(first.run_id)
    assert (row.status, row.session, row.task, row.parent_run_id) == ("completed", "s", "u", parent.run_id)
    with pytest.raises(RunNotFound):
        Journal.go_on(again, "none")
    again.append(Batch(run=RunRow("empty", agent="a", started=1.0))).result()
    with pytest.raises(StoreError, match="no records"):
        Journal.go_on(again, "empty")
    again.close()


@pytest.mark.parametrize("mode", ["normal", "full"])
def test_a_committed_event_is_seen_by_another_store(tmp_path: Path, mode: str) -> None:
    url = f"sqlite:///{tmp_path}/w.db?synchronous={mode}"

    async def main() -> None:
        writer, reader = open_store(url), open_store(url)
        journal = Journal.start(writer, agent="a")
        journal.record(EventType.RUN_STARTED, task="t")
        for n in range(50):
            journal.send()
            event = journal.record(EventType.WARNING, n=n)
            await journal.commit()
            assert [e.seq for e in read_events(reader, journal.run_id)][-1] == event.seq
        await journal.commit()  # nothing new: no wait, no error
        assert verify(reader, journal.run_id) is None
        writer.close()
        reader.close()

    asyncio.run(main())


def test_a_second_writer_makes_the_first_one_fail_for_good(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/w.db"
    one, two = open_store(url), open_store(url)
    first = Journal.start(one, agent="a", run_id="same")
    second = Journal.start(two, agent="a", run_id="same")
    first.record(EventType.RUN_STARTED, task="t")
    commit(first)
    second.record(EventType.RUN_STARTED, task="t")
    second.send()
    for _ in range(2):
        second.record(EventType.WARNING, message="m")
        with pytest.raises(StoreError, match="record 1") as caught:
            commit(second)
        assert caught.value.run_id == "same"
    assert verify(one, "same") is None
    one.close()
    two.close()


def test_cancelling_a_commit_does_not_cancel_the_write(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store(f"sqlite:///{tmp_path}/w.db?synchronous=full")
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="t")
        task = asyncio.ensure_future(journal.commit())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await journal.commit()
        assert len(list(read_events(store, journal.run_id))) == 1
        store.close()

    asyncio.run(main())


RECORDS = 20
SEQ = "(id & 0xffffffff)"
TAMPERINGS = {
    "flip": [f"UPDATE events SET body = CAST(replace(body, '7', '8') AS BLOB) WHERE {SEQ} = {{n}}"],
    "time": [f"UPDATE events SET time = time + 1 WHERE {SEQ} = {{n}}"],
    "time as text": [f"UPDATE events SET time = 'then' WHERE {SEQ} = {{n}}"],
    "agent": [f"UPDATE events SET agent = CAST('b' AS BLOB) WHERE {SEQ} = {{n}}"],
    "not UTF-8": [f"UPDATE events SET agent = x'ff' WHERE {SEQ} = {{n}}"],
    "not bytes": [f"UPDATE events SET body = 'x', agent = 'y' WHERE {SEQ} = {{n}}"],
    "type": [f"UPDATE events SET type = 'tool.called' WHERE {SEQ} = {{n}}"],
    "type as bytes": [f"UPDATE events SET type = x'ff' WHERE {SEQ} = {{n}}"],
    "hash": [f"UPDATE events SET hash = zeroblob(32) WHERE {SEQ} = {{n}}"],
    "hash as text": [f"UPDATE events SET hash = 'x' WHERE {SEQ} = {{n}}"],
    "pruned": [f"UPDATE events SET pruned = 'x' WHERE {SEQ} = {{n}}"],
    "drop": [f"DELETE FROM events WHERE {SEQ} = {{n}}"],
    "drop and close up": [
        f"DELETE FROM events WHERE {SEQ} = {{n}}",
        f"UPDATE events SET id = -id WHERE {SEQ} > {{n}}",
        "UPDATE events SET id = -id - 1 WHERE id < 0",
    ],
    "swap": [
        f"UPDATE events SET id = -id WHERE {SEQ} = {{n}}",
        f"UPDATE events SET id = id - 1 WHERE {SEQ} = {{n}} + 1",
        "UPDATE events SET id = -id + 1 WHERE id < 0",
    ],
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_tampering_is_found_at_the_right_record(tmp_path: Path, how: str) -> None:
    path = tmp_path / "w.db"
    store = open_store(f"sqlite:///{path}")
    for n in (1, 7, RECORDS - 1):
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="t", digits="70707")
        for _ in range(RECORDS - 2):
            journal.record(EventType.WARNING, message="m", digits="70707")
        journal.record(EventType.RUN_FINISHED, status="completed", digits="70707")
        commit(journal)
        assert verify(store, journal.run_id) is None
        with sqlite3.connect(path) as other:
            (number,) = other.execute("SELECT id FROM journals WHERE run_id = ?", (journal.run_id,)).fetchone()
            for statement in TAMPERINGS[how]:
                mine = f"abs(id) >> 32 = {number}"
                assert other.execute(f"{statement.format(n=n)} AND {mine}").rowcount > 0
        other.close()
        found = verify(store, journal.run_id)
        assert isinstance(found, Break)
        assert found.seq == n
    store.close()


def test_a_cut_off_tail_another_parent_and_a_changed_message_are_found(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    store = open_store(f"sqlite:///{path}")

    def finished() -> str:
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="t")
        journal.record(EventType.MODEL_REQUESTED, keep=0, add=[journal.keep(Message("user", journal.run_id))])
        journal.record(EventType.RUN_FINISHED, status="completed")
        commit(journal)
        return journal.run_id

    for statement, seq in {
        "DELETE FROM events WHERE id = (SELECT id << 32 | 3 FROM journals WHERE run_id = :run)": 3,
        "DELETE FROM events WHERE id >> 32 = (SELECT id FROM journals WHERE run_id = :run)": 1,
        "UPDATE runs SET parent_run_id = 'other' WHERE run_id = :run": 1,
        "UPDATE messages SET body = body || ' ' WHERE instr(body, :run)": 2,
        "DELETE FROM messages WHERE instr(body, :run)": 2,
    }.items():
        run_id = finished()
        with sqlite3.connect(path) as other:
            assert other.execute(statement, {"run": run_id}).rowcount >= 1
        other.close()
        found = verify(store, run_id)
        assert found is not None
        assert found.seq == seq, statement
    store.close()


def test_run_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_run_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(len(name) == 18 and name == name.lower() and name.isalnum() for name in ids)
    times = [name[:9] for name in ids]
    assert times == sorted(times)
