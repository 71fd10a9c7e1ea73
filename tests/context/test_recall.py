"""What was folded away is found again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import CodeAgent, ContextBudget, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.context.history import History
from wherry.context.recall import recall
from wherry.errors import ConfigurationError, ToolError
from wherry.journal import EventType, read_events
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply
from wherry.store import Store
from wherry.tools import ToolContext, use_context

pytestmark = pytest.mark.anyio

BUDGET = ContextBudget(window=2_048, reserve_output=256)


def calls(*items: tuple[str, dict[str, Any]], text: str = "") -> ModelReply:
    return ModelReply(text, tool_calls=[ToolCall(f"c{n}", name, args) for n, (name, args) in enumerate(items)])


def final(answer: str = "done") -> ModelReply:
    return calls(("final_answer", {"answer": answer}))


@tool
def look(where: str) -> str:
    """Look somewhere.

    Args:
        where: a text that comes back
    """
    return where


def agent_of(replies: Iterable[Any], store: Store, budget: ContextBudget = BUDGET) -> ToolCallingAgent:
    return ToolCallingAgent([look], ScriptedModel([*replies], counter="qwen"), store=store, context=budget)


async def ask(store: Store, run_id: str, query: str, session: str | None = None, **rest: Any) -> str:
    with use_context(ToolContext(run_id, "agent", session, store)):
        return str(await recall.call({"query": query, **rest}))


def folded(store: Store, run_id: str) -> list[Message]:
    digests = [
        digest
        for event in read_events(store, run_id)
        if event.type == EventType.CONTEXT_COMPACTED
        for digest in event.payload["folded"]
    ]
    return [Message.decode(store.message(digest)) for digest in digests]


PADDING = "nothing of interest was seen there on that day, and the next one was no better. " * 3


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=12, max_size=30),
    parallel=st.integers(1, 3),
    asked=st.integers(2, 10),
)
def test_every_word_of_a_folded_message_is_found(sizes: list[int], parallel: int, asked: int) -> None:
    """Each call and each result has a word that nothing else has; asked in the middle of the run and at its end."""
    store = open_store("memory://")

    def word(step: int, number: int) -> str:
        return f"zq{step:03d}x{number}kj"

    replies: list[ModelReply] = []
    for step, size in enumerate(sizes):
        if step % asked == 1:
            replies.append(calls(("recall", {"query": word(0, 0)})))
        items = [("look", {"where": f"{word(step, n)} {PADDING * (size % 4)}"}) for n in range(parallel)]
        replies.append(calls(*items, text=f"Looking, thinking of said{step:03d}word."))
    agent = agent_of([*replies, final()], store, ContextBudget(window=2_048, reserve_output=256))
    agent.max_steps = 100

    async def check() -> None:
        result = await agent.arun("Find the zwickau9 number.")
        gone = folded(store, result.run_id)
        history = History(store, result.run_id)
        for message in gone:
            for one in set(re.findall(r"zq\d{3}x\dkj|said\d{3}word", str(message.to_json()))):
                found = history.find(one)
                assert any(one in memory.text for memory in found), one
                whole = await ask(store, result.run_id, found[0].place.ref)
                assert one in whole
        assert history.find("zwickau9")[0].place.who == "user"

    anyio.run(check)
    store.close()


def steps(count: int, start: int = 0) -> list[ModelReply]:
    return [calls(("look", {"where": f"step{n:03d}fact is {n * 37}. {PADDING}"})) for n in range(start, start + count)]


async def test_what_it_says_names_step_speaker_and_reference() -> None:
    store = open_store("memory://")
    result = await agent_of([*steps(15), final()], store).arun("look around")
    assert folded(store, result.run_id)
    told = await ask(store, result.run_id, "step003fact")
    assert told.startswith("[recall: 2 found for 'step003fact', best first]\n")
    assert re.search(r"\nstep 4, tool look \(m-\d+\.\d+\): step003fact is 111\. nothing of", told)
    assert re.search(r"\nstep 4, assistant \(m-\d+\.\d+\): calls look \{\"where\": \"step003fact", told)
    ref = re.search(r"tool look \((m-\d+\.\d+)\)", told)
    assert ref is not None
    part = await ask(store, result.run_id, ref[1], offset=12)
    assert part.startswith(f"[recall: {ref[1]}, tool look, characters 12 to ")
    assert part.partition("\n")[2].startswith("is 111. nothing")
    assert "nothing found for 'elephant'" in await ask(store, result.run_id, "elephant")


async def test_an_agent_can_ask_within_its_run() -> None:
    store = open_store("memory://")
    agent = agent_of([*steps(15), calls(("recall", {"query": "step002fact"})), final()], store)
    await agent.arun("look around")
    assert isinstance(agent.model, ScriptedModel)
    assert "step002fact is 74" in agent.model.requests[-1].messages[-1].content


async def test_what_was_set_aside_is_found_to_its_middle() -> None:
    store = open_store("memory://")
    long = f"{PADDING * 80} the keyword is xylotomy77. {PADDING * 80}"
    result = await agent_of([calls(("look", {"where": long})), *steps(12), final()], store).arun("look")
    told = await ask(store, result.run_id, "xylotomy77")
    found = re.search(r"stored content \((a-[0-9a-f]+) at byte (\d+)\): .*xylotomy77", told)
    assert found is not None
    piece = store.artifacts.read(found[1], int(found[2]), 2_100).decode()
    assert "xylotomy77" in piece


async def test_a_session_remembers_its_earlier_runs_and_no_other_session_does() -> None:
    store = open_store("memory://")
    last = await agent_of([final()], store).arun("hello", session="s")
    for turn in range(6):
        replies = [*steps(3, turn * 3), final(f"answer{turn:02d} of this turn. {PADDING}")]
        last = await agent_of(replies, store).arun(f"question{turn:02d} {PADDING}", session="s")
    for word in ("step001fact", "question00", "answer00"):
        told = await ask(store, last.run_id, word, "s")
        assert word in told.partition("\n")[2], word
    again = await ask(store, last.run_id, "step001fact", "s")
    ref = re.search(r"\((m-\d+\.\d+@\w{18})\)", again)
    assert ref is not None
    assert "step001fact" in await ask(store, last.run_id, ref[1], "s")

    other = await agent_of([final()], store).arun("hello", session="other")
    assert "nothing found" in await ask(store, other.run_id, "step001fact", "other")
    with pytest.raises(ToolError, match="belongs to another conversation"):
        await ask(store, other.run_id, ref[1], "other")
    alone = await agent_of([final()], store).arun("hello")
    with pytest.raises(ToolError, match="belongs to another conversation"):
        await ask(store, alone.run_id, ref[1])


async def test_a_later_question_indexes_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://")
    counts: list[int] = []
    add = store.search.add

    def counted(space: str, items: Iterable[tuple[str, str]], *, cursor: int | None = None) -> None:
        listed = list(items)
        counts.append(len(listed))
        add(space, listed, cursor=cursor)

    monkeypatch.setattr(store.search, "add", counted)
    asking = calls(("recall", {"query": "step001fact"}))
    await agent_of([*steps(14), asking, *steps(1, 50), asking, final()], store).arun("look")
    totals = [sum(counts[:2]), sum(counts[2:])]
    assert totals[0] > 25
    assert totals[1] <= 4


async def test_what_recall_itself_said_is_not_found_in_place_of_what_it_found() -> None:
    store = open_store("memory://")
    asking = calls(("recall", {"query": "step001fact"}))
    result = await agent_of([*steps(12), asking, *steps(12, 20), asking, *steps(6, 40), final()], store).arun("look")
    told = await ask(store, result.run_id, "step001fact")
    assert "tool recall" not in told
    assert "tool look" in told


async def test_mistakes_are_explained() -> None:
    store = open_store("memory://")
    result = await agent_of([final()], store).arun("hello")
    with pytest.raises(ToolError, match="no words"):
        await ask(store, result.run_id, " ?! ")
    with pytest.raises(ToolError, match=r"no message 'm-99999\.0'"):
        await ask(store, result.run_id, "m-99999.0")
    with pytest.raises(LookupError, match="is no reference such as"):
        History(store, result.run_id).message("m-x")
    with pytest.raises(ToolError, match="no message"):
        await ask(store, result.run_id, "m-1.0")
    assert "nothing found" in await ask(store, result.run_id, 'NEAR( AND "')


def test_an_input_cannot_take_the_name_of_a_function_that_is_always_there() -> None:
    agent = CodeAgent([], ScriptedModel([]), store="memory://")
    for name in ("recall", "read_artifact", "search_artifact"):
        with pytest.raises(ConfigurationError, match=f"the input '{name}' has the name of a tool"):
            agent.run("x", inputs={name: 1})


async def test_what_only_looks_like_a_reference_is_searched_for() -> None:
    store = open_store("memory://")
    said = calls(("look", {"where": "the parts are m-4711 and m-47.11 and no others"}))
    result = await agent_of([said, final()], store).arun("look")
    for query in ("m-4711", "m-47.11"):
        assert "the parts are" in await ask(store, result.run_id, query), query


async def test_what_only_looks_like_an_excerpt_is_found() -> None:
    store = open_store("memory://")
    texts = [
        "[recall: 1 found for 'x', best first] page1word",
        "[a-0123456789ab: bytes 0 to 9 of 9, x; the end]\npage2word",
    ]
    looks = [calls(("look", {"where": "there"})) for _ in texts]

    @tool
    def look(where: str) -> str:
        """Look somewhere.

        Args:
            where: anywhere
        """
        return texts.pop(0)

    @tool
    def search_knowledge(query: str) -> str:
        """The user's own.

        Args:
            query: words
        """
        return "page3word"

    replies = [*looks, calls(("search_knowledge", {"query": "x"})), final()]
    model = ScriptedModel(replies, counter="qwen")
    result = await ToolCallingAgent([look, search_knowledge], model, store=store).arun("look")
    for word in ("page1word", "page2word", "page3word"):
        assert "1 found for" in await ask(store, result.run_id, word), word


async def test_a_question_that_runs_out_of_time_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.context.history.SECONDS", -1.0)
    monkeypatch.setattr("wherry.context.history._BATCH", 4)
    store = open_store("memory://")
    result = await agent_of([*steps(18), final()], store).arun("look")
    told: list[str] = []
    while len(told) < 100:
        told.append(await ask(store, result.run_id, "step017fact"))
        if "not complete" not in told[-1]:
            break
    assert "not complete yet: ask again" in told[0]
    assert 3 < len(told) < 60
    assert "step017fact is" in told[-1]
