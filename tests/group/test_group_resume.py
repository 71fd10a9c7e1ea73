"""Group chats that are interrupted go on exactly there: nothing is asked, paid or put down twice."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import CodeAgent, FunctionModel, GroupChat, Limits, RunStatus, ScriptedModel, ToolCallingAgent, open_store
from wherry.agents import RunResult
from wherry.agents.group import Chat, Human, MaxRounds, Mention
from wherry.errors import ModelError, StoreConflict
from wherry.journal import Event, EventType, read_events, verify
from wherry.messages import canonical
from wherry.models import ModelRequest
from wherry.policy.approvals import Decision
from wherry.store import Store

asked: list[str] = []
"""What every model of these tests was asked, by digest."""


def view_of(request: ModelRequest) -> str:
    return hashlib.sha256(canonical([message.to_json() for message in request.messages])).hexdigest()[:12]


def member(name: str) -> ToolCallingAgent:
    """Says the digest of all that it is shown: whoever sees something else says something else."""

    def answer(request: ModelRequest) -> str:
        seen = view_of(request)
        asked.append(f"{name} {seen}")
        if name == "dee":
            raise ModelError("no credit", kind="QuotaExhausted")
        return f"{name} saw {seen} " + "and more " * 100

    return ToolCallingAgent((), FunctionModel(answer, window=4_096), name=name)


def choose(chat: Chat) -> list[str]:
    order = [["ann"], ["bo", "cy"], ["dee"], ["ann"], ["cy", "dee", "bo"], ["ann"], ["eve"]]
    return order[chat.round % len(order)]


def person(chat: Chat) -> str | None:
    return f"after {len(chat.transcript)}" if chat.round < 10 else None


def party(store: Store | str, **options: Any) -> GroupChat:
    members = [*map(member, ("ann", "bo", "cy", "dee")), Human("eve", ask=person)]
    return GroupChat(members, speaker=choose, max_rounds=14, store=store, **options)


def spoken(group: GroupChat, run_id: str) -> list[tuple[int, str, str]]:
    return [(said.position, said.author, said.text) for said in group.transcript(run_id).read(limit=1_000)]


@pytest.mark.slow
def test_a_chat_that_was_cancelled_goes_on_where_it_stood() -> None:
    store = open_store("memory://")
    whole = party(store)
    asked.clear()
    reference = whole.run("Talk about harbours.")
    expected, questions = spoken(whole, reference.run_id), sorted(asked)
    events = sum(1 for row in store.runs(limit=1_000, children=True) for _ in store.events(row.run_id))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, events), min_size=1, max_size=3))
    def interrupted(stops: list[int]) -> None:
        asked.clear()
        group = party(store)
        run_id: str = ""

        async def main() -> None:
            nonlocal run_id
            stream = group.astream("Talk about harbours.")
            async for number, event in aenumerate(stream):
                run_id = run_id or str(event.run_id)
                if number == stops[0]:
                    group.cancel(run_id)
            for stop in stops[1:]:
                await go_on(stop)

        async def go_on(stop: int) -> None:
            async with anyio.create_task_group() as tasks:

                async def resume() -> None:
                    await party(store).aresume(run_id)

                tasks.start_soon(resume)
                for _ in range(stop):
                    await anyio.lowlevel.checkpoint()
                group.cancel(run_id)

        anyio.run(main)
        left.append(store.run(run_id).status)
        result = party(store).resume(run_id)
        assert result.status is RunStatus.COMPLETED
        assert result.reason == reference.reason
        assert result.output == reference.output
        assert spoken(group, run_id) == expected
        # A question that was under way is asked again, in the same words; nothing else is.
        assert set(asked) == set(questions)
        assert len(asked) <= len(questions) + 3 * len(stops)
        chosen = [e.payload["round"] for e in read_events(store, run_id) if e.type is EventType.SPEAKER_CHOSEN]
        assert chosen == list(range(1, 15))
        verify(store, run_id)

    left: list[str | None] = []
    interrupted()
    assert left.count("cancelled") > 20
    store.close()


async def aenumerate(stream: AsyncIterator[Event]) -> AsyncIterator[tuple[int, Event]]:
    number = 0
    async for item in stream:
        number += 1
        yield number, item


PROGRAM = """
import sys
from wherry.store import open_store
sys.path.insert(0, sys.argv[1])
from test_group_resume import party

store = open_store(sys.argv[2])
group = party(store)
unfinished = [row.run_id for row in store.runs()]
result = group.resume(unfinished[0]) if unfinished else group.run("Talk about harbours.")
print(result.run_id, flush=True)
store.close()
"""


def play(url: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WHERRY_FAILPOINT": failpoint}
    here = str(Path(__file__).parent)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, here, url], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "failpoint",
    ["transcript.appended:1", "transcript.appended:7", "transaction.committed:40", "*:150", "*:285", "*:333"],
)
def test_a_chat_that_was_killed_goes_on_where_it_stood(tmp_path: Path, failpoint: str) -> None:
    memory = open_store("memory://")
    whole = party(memory)
    expected = spoken(whole, whole.run("Talk about harbours.").run_id)
    memory.close()
    url = f"sqlite:///{tmp_path / 'wherry.db'}"
    killed = play(url, failpoint)
    assert killed.returncode == -9, killed.stderr
    again = play(url)
    assert again.returncode == 0, again.stderr
    store = open_store(url)
    run_id = again.stdout.strip()
    assert spoken(party(store), run_id) == expected
    verify(store, run_id)
    assert store.run(run_id).status == "completed"
    store.close()


def test_a_limit_is_raised_and_the_chat_goes_on() -> None:
    store = open_store("memory://")
    group = GroupChat([member("ann"), member("bo")], speaker="round_robin", max_rounds=6, store=store)
    stopped = group.run("go", limits=Limits(requests=3))
    assert (stopped.status, len(spoken(group, stopped.run_id))) == (RunStatus.LIMIT, 4)
    result = group.resume(stopped.run_id, limits=Limits(requests=6))
    assert (result.status, result.steps, result.usage.requests) == (RunStatus.COMPLETED, 6, 6)
    assert [author for _, author, _ in spoken(group, result.run_id)] == ["user", *["ann", "bo"] * 3]
    store.close()


def test_a_chat_out_of_rounds_goes_on_with_more() -> None:
    store = open_store("memory://")
    group = GroupChat(
        [member("ann"), member("bo")], speaker="round_robin", max_rounds=3, stop=Mention("DONE"), store=store
    )
    stopped = group.run("go")
    assert (stopped.status, stopped.steps) == (RunStatus.MAX_STEPS, 3)
    result = group.resume(stopped.run_id, max_steps=5)
    assert (result.status, result.steps) == (RunStatus.MAX_STEPS, 5)
    assert [author for _, author, _ in spoken(group, result.run_id)] == ["user", "ann", "bo", "ann", "bo", "ann"]
    store.close()


def test_one_that_is_done_gives_its_result_again() -> None:
    store = open_store("memory://")
    group = GroupChat([member("ann"), member("bo")], speaker="round_robin", stop=MaxRounds(2), store=store)
    result = group.run("go")
    count = len(asked)
    again = group.resume(result.run_id)
    assert (again.output, again.status, again.reason) == (result.output, RunStatus.COMPLETED, "2 rounds are over")
    assert len(asked) == count
    store.close()


def test_chance_goes_on_as_it_began() -> None:
    store = open_store("memory://")
    names = ("ann", "bo", "cy")
    group = GroupChat([member(name) for name in names], speaker="random", max_rounds=9, store=store)
    stopped = group.run("go", limits=Limits(requests=4))
    result = group.resume(stopped.run_id, limits=Limits())
    chosen = [e.payload for e in read_events(store, result.run_id) if e.type is EventType.SPEAKER_CHOSEN]
    assert [one["round"] for one in chosen] == list(range(1, 10))
    assert [one["speakers"][0] for one in chosen] == [a for _, a, _ in spoken(group, result.run_id)[1:]]
    store.close()


def test_whoever_wrote_meanwhile_is_a_conflict() -> None:
    store = open_store("memory://")
    group = GroupChat([member("ann"), member("bo")], speaker="round_robin", max_rounds=6, store=store)
    stopped = group.run("go", limits=Limits(requests=3))
    anyio.run(group.transcript(stopped.run_id).append, "mallory", "I was never asked.")
    with pytest.raises(StoreConflict, match="mallory"):
        group.resume(stopped.run_id, limits=Limits())
    store.close()


def test_a_person_may_take_a_week(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'wherry.db'}"

    def group(store: Store) -> GroupChat:
        return GroupChat([member("ann"), Human("eve", ask="wait")], speaker="round_robin", max_rounds=4, store=store)

    store = open_store(url)
    first = group(store).run("Agree on a time.")
    assert (first.status, first.output, first.steps) == (RunStatus.WAITING, None, 2)
    (question,) = first.pending
    assert (question.agent, question.name) == ("eve", "say")
    assert "ann saw" in question.arguments["conversation"]
    assert group(store).resume(first.run_id).status is RunStatus.WAITING, "nobody has decided"
    store.close()

    store = open_store(url)  # in another process
    count = len(asked)
    answer = Decision(True, arguments={"text": "At noon."})
    second = group(store).resume(first.run_id, approvals={question.id: answer})
    assert second.status is RunStatus.WAITING, "it is her turn again"
    assert len(asked) == count + 1
    assert spoken(group(store), first.run_id)[2] == (3, "eve", "At noon.")
    (question,) = second.pending
    third = group(store).resume(first.run_id, approvals={question.id: False})
    assert third.status is RunStatus.COMPLETED
    assert [author for _, author, _ in spoken(group(store), first.run_id)] == ["user", "ann", "eve", "ann"]
    verify(store, first.run_id)
    store.close()


def test_a_person_below_a_manager_suspends_it_too() -> None:
    store = open_store("memory://")
    panel = GroupChat(
        [member("ann"), Human("eve", ask="wait")],
        speaker="round_robin",
        max_rounds=2,
        name="panel",
        description="Two who discuss.",
    )
    manager = CodeAgent(
        model=ScriptedModel(["```python\nfinal_answer(panel('discuss it'))\n```"]), managed_agents=[panel], store=store
    )
    first = manager.run("go")
    assert first.status is RunStatus.WAITING
    (question,) = first.pending
    assert question.root_run_id == first.run_id
    answer = Decision(True, arguments={"text": "At noon."})
    assert manager.resume(first.run_id, approvals={question.id: answer}).output == "At noon."
    store.close()


def waiting_for(group: GroupChat, run_id: str, answers: dict[str, str | None]) -> RunResult:
    """Answer the questions of these people, in another process as it were."""
    pending = {one.agent or "": one.id for one in group.resume(run_id).pending}
    decided = {
        pending[name]: Decision(text is not None, arguments={"text": text} if text is not None else None)
        for name, text in answers.items()
    }
    return group.resume(run_id, approvals=decided)


def test_a_person_in_a_group_within_a_group_is_waited_for() -> None:
    store = open_store("memory://")

    def group() -> GroupChat:
        inner = GroupChat(
            [member("ann"), Human("eve", ask="wait")],
            speaker="round_robin",
            max_rounds=2,
            name="inner",
            description="2",
        )
        return GroupChat([member("bo"), inner], speaker="round_robin", max_rounds=4, store=store)

    first = group().run("Agree on a time.")
    assert (first.status, first.steps) == (RunStatus.WAITING, 2)
    count = len(asked)
    second = waiting_for(group(), first.run_id, {"eve": "At noon."})
    assert second.status is RunStatus.WAITING
    assert len(asked) == count + 2, "bo and ann spoke once more, and nobody again"
    third = waiting_for(group(), first.run_id, {"eve": "At one."})
    assert (third.status, third.output) == (RunStatus.COMPLETED, "At one.")
    authors = [(author, text) for _, author, text in spoken(group(), first.run_id) if author == "inner"]
    assert authors == [("inner", "At noon."), ("inner", "At one.")]
    store.close()


def test_people_who_speak_at_once_are_waited_for_one_by_one() -> None:
    store = open_store("memory://")

    def group() -> GroupChat:
        people = [Human("eve", ask="wait"), Human("zoe", ask="wait")]
        order = [["ann", "eve", "zoe"], ["bo"]]
        return GroupChat(
            [member("ann"), *people, member("bo")],
            speaker=lambda chat: order[chat.round] if chat.round < 2 else None,
            store=store,
        )

    first = group().run("Agree on a time.")
    assert (first.status, sorted(one.agent or "" for one in first.pending)) == (RunStatus.WAITING, ["eve", "zoe"])
    count = len(asked)
    assert spoken(group(), first.run_id)[1:] == [], "nothing of a round is put down before all of it is there"
    second = waiting_for(group(), first.run_id, {"zoe": "At one."})
    assert (second.status, [one.agent for one in second.pending]) == (RunStatus.WAITING, ["eve"])
    assert len(asked) == count
    third = waiting_for(group(), first.run_id, {"eve": None})
    assert third.status is RunStatus.COMPLETED
    assert [author for _, author, _ in spoken(group(), first.run_id)] == ["user", "ann", "zoe", "bo"]
    assert len(asked) == count + 1
    store.close()
