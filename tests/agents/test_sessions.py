"""A conversation that goes on over many runs: bounded like one, the same after a restart, flat in time and memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.context.conversations import exact

from wherry import ContextBudget, FunctionModel, Limits, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ModelError
from wherry.journal import EventType, read_events
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.store import Store

pytestmark = pytest.mark.anyio
WINDOW, RESERVE = 2_048, 128
BUDGET = ContextBudget(reserve_output=RESERVE, compaction="extract")


@tool
async def weigh(parcel: int) -> str:
    """What a parcel weighs.

    Args:
        parcel: Its number.
    """
    return f"parcel {parcel} weighs {parcel * 7} grams " + "and looks like all the others " * 6


class Talker:
    """Weighs a parcel in every third run, and then says a few words. Keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    def __call__(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        number = len(self.requests)
        last = request.messages[-1]
        if last.role != "tool" and number % 3 == 0:
            return ModelReply(tool_calls=[ToolCall(f"c{number}", "weigh", {"parcel": number})])
        return ModelReply(f"That is noted as number {number}.", finish_reason="stop")

    def agent(self, store: Store, **rest: Any) -> ToolCallingAgent:
        model = FunctionModel(self, counter="qwen", window=WINDOW, name="talker")
        return ToolCallingAgent([weigh], model, store=store, context=BUDGET, **rest)


def same(one: ModelRequest, other: ModelRequest) -> int:
    """How many messages two requests begin with alike."""
    count = 0
    for first, second in zip(one.messages, other.messages, strict=False):
        if first != second:
            break
        count += 1
    return count


@pytest.mark.slow
async def test_hundreds_of_runs_stay_within_the_window_and_end_with_what_was_said_last() -> None:
    store, talker = open_store("memory://"), Talker()
    agent = talker.agent(store)
    sizes: list[int] = []
    folded = 0
    for turn in range(300):
        result = await agent.arun(f"Good day, this is visit {turn} and nothing much is new.", session="s")
        assert result.status is RunStatus.COMPLETED
        state = store.load_session("s")
        assert state is not None
        sizes.append(len(state))
        folded += sum(event.type == EventType.CONTEXT_COMPACTED for event in read_events(store, result.run_id))
    for request in talker.requests:
        assert exact(request.messages, request.tools) + RESERVE <= WINDOW
    assert folded >= 10
    # What is kept between runs is a window's worth, however long the conversation is.
    assert max(sizes[150:]) <= max(sizes[:150]) * 1.25
    asked = [r for r in talker.requests if r.messages[-1].role == "user"]
    assert len(asked) == 300
    assert all(f"this is visit {n} and" in r.messages[-1].content for n, r in enumerate(asked))


async def test_between_two_compactions_each_run_begins_with_all_of_the_one_before() -> None:
    store, talker = open_store("memory://"), Talker()
    agent = talker.agent(store)
    compacted: list[bool] = []
    for turn in range(60):
        before = len(talker.requests)
        result = await agent.arun(f"Good day, this is visit {turn}.", session="s")
        folded = any(event.type == EventType.CONTEXT_COMPACTED for event in read_events(store, result.run_id))
        compacted += [folded] * (len(talker.requests) - before)
    quiet = 0
    for (one, other), folded in zip(pairwise(talker.requests), compacted[1:], strict=True):
        if not folded:
            assert same(one, other) == len(one.messages)
            quiet += 1
    assert quiet > 40
    assert any(compacted)


async def test_another_process_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'wherry.db'}"
    texts = [f"Good day, this is visit {turn} and it rains." for turn in range(25)]

    async def conversation(restart_every: int, session: str) -> list[ModelRequest]:
        talker = Talker()
        store = open_store(url)
        for number, text in enumerate(texts, 1):
            await talker.agent(store).arun(text, session=session)
            if number % restart_every == 0:
                store.close()
                store = open_store(url)
        store.close()
        return talker.requests

    once = await conversation(100, "one")
    often = await conversation(3, "two")
    assert [r.messages for r in once] == [r.messages for r in often]


async def test_a_run_that_fails_leaves_the_conversation_as_it_was() -> None:
    store = open_store("memory://")
    script = ["Hello Ada.", ModelError("the server is gone", kind="BadRequest"), "You are Ada."]
    model = ScriptedModel(script)
    agent = ToolCallingAgent(model=model, store=store)
    await agent.arun("I am Ada.", session="s")
    before = store.load_session("s")
    with pytest.raises(ModelError):
        await agent.arun("This is lost.", session="s")
    assert store.load_session("s") == before
    await agent.arun("Who am I?", session="s")
    texts = [message.content for message in model.requests[-1].messages]
    assert "I am Ada." in texts
    assert "This is lost." not in texts
    assert texts[-1] == "Who am I?"


async def test_sessions_do_not_mix() -> None:
    store = open_store("memory://")
    model = FunctionModel(lambda request: f"{len(request.messages)}", window=4_096)
    agent = ToolCallingAgent(model=model, store=store)
    for turn in range(4):
        for session in ("a", "b", "c"):
            result = await agent.arun(f"This is {session}, {turn}.", session=session)
            # System prompt, a question and an answer for each run before, the question.
            assert result.output == str(2 + 2 * turn)


async def test_an_oversized_answer_is_bounded_in_the_runs_after_it() -> None:
    store, requests = open_store("memory://"), list[ModelRequest]()

    def reply(request: ModelRequest) -> str:
        requests.append(request)
        return "BEGIN " + "word " * 200_000 + "END"

    agent = ToolCallingAgent(model=FunctionModel(reply, counter="qwen", window=WINDOW), store=store, context=BUDGET)
    await agent.arun("Tell me all.", session="s")
    await agent.arun("And now?", session="s")
    assert exact(requests[-1].messages, requests[-1].tools) + RESERVE <= WINDOW
    said = "".join(message.content for message in requests[-1].messages if message.role == "assistant")
    assert "<wherry:offloaded" in said
    assert isinstance(requests[-1].messages[-1], Message)


async def test_turns_that_another_process_added_meanwhile_are_kept_and_told() -> None:
    store = open_store("memory://")
    await ToolCallingAgent(model=ScriptedModel(["hello"]), store=store).arun("hi", session="s")
    theirs = store.load_session("s")
    assert theirs is not None

    def meanwhile(request: ModelRequest) -> str:
        store.save_session("s", theirs)
        return "late"

    result = await ToolCallingAgent(model=FunctionModel(meanwhile), store=store).arun("again", session="s")
    assert result.output == "late"
    assert "by another process meanwhile" in result.warnings[0]
    assert store.load_session("s") == theirs


async def test_a_run_that_a_limit_ended_is_remembered_with_its_calls_closed() -> None:
    store = open_store("memory://")
    call = ModelReply(tool_calls=[ToolCall("c", "weigh", {"parcel": 3})])
    model = ScriptedModel([call, "That was parcel 3."])
    agent = ToolCallingAgent([weigh], model=model, store=store)
    result = await agent.arun("Weigh the third.", session="s", limits=Limits(requests=1))
    assert result.status is RunStatus.LIMIT
    await agent.arun("Which one was it?", session="s")
    messages = model.requests[-1].messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert messages[-2].content == "[this run ended: limit]"
    assert "21 grams" in messages[3].content
