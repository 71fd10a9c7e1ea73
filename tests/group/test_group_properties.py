"""What must hold whoever speaks and whatever fails: transitions are kept, turns are counted, windows never overflow."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import CodeAgent, ContextBudget, FunctionModel, GroupChat, RunStatus, ToolCallingAgent, open_store
from wherry.agents import Agent
from wherry.agents.group import Chat, Forbidden, Human, Stop
from wherry.agents.group.selecting import read_choice
from wherry.agents.group.transitions import Transitions
from wherry.context import TokenCounter
from wherry.errors import ConfigurationError, ModelError
from wherry.journal import EventType, read_events, verify
from wherry.models import ModelProfile, ModelReply, ModelRequest
from wherry.store import Store

NAMES = ("ann", "bo", "cy", "dee", "eli")


@st.composite
def listed(draw: st.DrawFn) -> dict[str, list[str]]:
    keys = draw(st.sets(st.sampled_from(("user", *NAMES))))
    return {key: draw(st.lists(st.sampled_from(NAMES), unique=True)) for key in sorted(keys)}


@pytest.mark.slow
@given(listed(), st.booleans())
def test_transitions_are_what_was_said_and_nothing_else(given_: dict[str, list[str]], forbid: bool) -> None:
    try:
        rules = Transitions(NAMES, Forbidden(given_) if forbid else given_)
    except ConfigurationError:
        first = given_["user"]
        assert len(first) == len(NAMES) if forbid else not first
        return
    for speaker in ("user", *NAMES):
        after = set(rules.after([speaker]))
        if speaker not in given_:
            assert after >= set(NAMES) - {speaker}
        elif forbid:
            assert after == set(NAMES) - set(given_[speaker])
        else:
            assert after == set(given_[speaker])
    for one in NAMES:
        for other in NAMES:
            assert rules.independent(one, other) == rules.independent(other, one)


@given(listed(), st.sampled_from(NAMES), st.permutations(NAMES), st.integers(1, 5))
def test_those_who_speak_at_once_cannot_answer_one_another(
    rules: dict[str, list[str]], first: str, candidates: Sequence[str], most: int
) -> None:
    rules.pop("user", None)
    transitions = Transitions(NAMES, rules)
    chosen = transitions.at_once(first, candidates, most)
    assert chosen[0] == first
    assert 1 <= len(chosen) <= most
    assert len(set(chosen)) == len(chosen)
    for one in chosen:
        for other in chosen:
            assert one == other or other not in transitions.after([one])


@given(st.text(max_size=60), st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
def test_a_choice_is_a_candidate_or_none(text: str, candidates: list[str]) -> None:
    assert read_choice(text, candidates) in (*candidates, None)
    name = candidates[0]
    for reply in (name, f'{{"speaker": "{name}"}}', f'"{name}"', f"  {name}\n", f"I say: {name.upper()}!"):
        assert read_choice(reply, candidates) == name


class Odd:
    """A participant's model: speaks, says nothing, raises or says a lot, by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __call__(self, request: ModelRequest) -> ModelReply:
        what = self._chance.randrange(8)
        if what == 0:
            raise ModelError("no credit", kind="QuotaExhausted")
        if what == 1:
            return ModelReply("")
        return ModelReply("word " * (4_000 if what == 2 else 5))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    speaker=st.sampled_from(["auto", "round_robin", "random", "function"]),
    rules=listed(),
    parallel=st.integers(1, 3),
    rounds=st.integers(1, 9),
    members=st.integers(1, 5),
)
def test_whoever_speaks_and_whatever_fails(
    seed: int, speaker: Any, rules: dict[str, list[str]], parallel: int, rounds: int, members: int
) -> None:
    chance = random.Random(seed)
    store = open_store("memory://")
    names = NAMES[:members]
    rules = {
        key: [name for name in given_ if name in names] for key, given_ in rules.items() if key in (*names, "user")
    }
    if not rules.get("user", ["x"]):
        del rules["user"]
    agents = [ToolCallingAgent((), FunctionModel(Odd(chance), window=4_096), name=name, max_steps=1) for name in names]
    transitions = Transitions(names, rules)

    def choose(chat: Chat) -> list[str] | None:
        candidates = transitions.after(chat.speakers or ["user"])
        return None if not candidates else chance.sample(candidates, min(len(candidates), parallel))

    selector = FunctionModel(lambda request: chance.choice(["ann", "bo", "nobody", '{"speaker": "cy"}', ""]))
    group = GroupChat(
        agents,
        speaker=choose if speaker == "function" else speaker,
        transitions=rules,
        parallel=parallel,
        max_rounds=rounds,
        model=selector,
        store=store,
    )
    try:
        result = group.run("task")
    except ModelError:
        (run,) = store.runs()
        run_id, status = run.run_id, RunStatus.FAILED
    else:
        run_id, status = result.run_id, result.status
        assert status is RunStatus.COMPLETED
        assert result.reason
    verify(store, run_id)
    events = list(read_events(store, run_id))
    chosen = [e.payload["speakers"] for e in events if e.type is EventType.SPEAKER_CHOSEN]
    asked = [e.payload["name"] for e in events if e.type is EventType.AGENT_CALLED]
    returned = {e.payload["run_id"]: e.payload["status"] for e in events if e.type is EventType.AGENT_RETURNED}
    assert len([one for one in chosen if one]) <= rounds
    for before, now in pairwise([["user"], *chosen]):
        assert set(now) <= set(transitions.after(before))
        assert len(set(now)) == len(now) <= max(parallel, 1)
    assert [name for name in asked if name not in ("speaker", "summary")] == [name for one in chosen for name in one]
    talk = group.transcript(run_id).read(limit=1_000)
    assert [said.position for said in talk] == list(range(1, len(talk) + 1))
    assert talk[0].author == "user"
    spoken = [said.author for said in talk[1:] if said.author != "chat"]
    order = iter(name for one in chosen for name in one)
    assert all(name in order for name in spoken), "what was said stands in the order of the choices"
    assert set(returned.values()) <= {"completed", "failed", "max_steps", "limit"}
    store.close()


def tokens(request: ModelRequest, profile: ModelProfile) -> int:
    counter = TokenCounter.for_profile(profile)
    return counter.request + counter.tools(request.tools) + sum(counter.message(one) for one in request.messages)


def talking(text: str, window: int, seen: list[int], *, code: bool = False) -> FunctionModel:
    profile = ModelProfile("m", window=window, counter="qwen")

    def answer(request: ModelRequest) -> str:
        seen.append(tokens(request, profile) + (request.max_output or 0))
        return f"```python\nfinal_answer({text!r})\n```" if code else text

    return FunctionModel(answer, window=window, counter="qwen", name="m")


@pytest.mark.slow
@pytest.mark.parametrize("window", [2_048, 8_192])
def test_five_with_ten_kilobytes_each_stay_inside_their_windows(window: int) -> None:
    store = open_store("memory://")
    seen: list[int] = []
    text = "The tide was high at noon and the mayor wrote it down. " * 180
    agents: list[Agent] = [
        ToolCallingAgent((), talking(text, window, seen), name=name, description="Talks.") for name in NAMES[:4]
    ]
    agents.append(CodeAgent(model=talking(text[:3_000], 8_192, [], code=True), name="eli", description="Computes."))
    group = GroupChat(agents, speaker="round_robin", max_rounds=100, store=store)
    result = group.run("Talk. " * 2_000)
    assert result.status is RunStatus.COMPLETED
    assert not result.warnings
    assert len(group.transcript(result.run_id)) == 101
    assert len(seen) >= 80
    assert max(seen) <= window
    store.close()


def test_a_turn_costs_the_same_however_long_the_chat_is() -> None:
    store = open_store("memory://")
    seen: list[int] = []
    agents = [
        ToolCallingAgent(
            (), talking("word " * 300, 8_192, seen), name=name, context=ContextBudget(compaction="extract")
        )
        for name in NAMES
    ]
    read: list[int] = []

    class Counted(Stop):
        async def met(self, chat: Chat) -> str | None:
            read.append(sum(store.transcripts.participant(chat.transcript.name, name) is not None for name in NAMES))
            return None

    group = GroupChat(agents, speaker="round_robin", max_rounds=120, stop=Counted(), store=store)
    group.run("go")
    early, late = seen[30:60], seen[90:120]
    assert max(late) <= max(early) * 1.1
    assert read[-1] == len(NAMES), "each has a summary of its own"
    store.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=8))
def test_whatever_people_say_is_put_down_or_passed_over(texts: list[str]) -> None:
    store: Store = open_store("memory://")
    left = list(texts)

    async def answer(chat: Chat) -> str | None:
        return left.pop(0) if left else None

    group = GroupChat([Human("eve", ask=answer)], speaker="round_robin", max_rounds=len(texts), store=store)
    result = group.run("go")
    talk = group.transcript(result.run_id).read()[1:]
    assert all(said.author == "eve" and said.text.strip() for said in talk)
    assert len(talk) <= sum(bool(text.strip()) for text in texts)
    store.close()
