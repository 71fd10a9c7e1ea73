"""`doctor RUN` says of every request what it was made of, and what made it grow."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import CodeAgent, ContextBudget, FunctionModel, ScriptedModel, ToolCallingAgent, Usage, open_store, tool
from wherry.context.counting import TokenCounter
from wherry.doctor.curve import drawn, page
from wherry.doctor.diagnose import question_of
from wherry.doctor.growth import Growth, growth
from wherry.errors import ModelError, RunNotFound
from wherry.journal import EventType, Journal
from wherry.messages import Message, ToolCall
from wherry.models import ModelProfile, ModelReply, ModelRequest
from wherry.store import Store


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


@tool
def fetch(page: int) -> str:
    """Fetch a page.

    Args:
        page: which
    """
    return f"page {page}: " + "lorem ipsum dolor " * (page * 10)


def reading(pages: int, usage: Usage | None = None) -> FunctionModel:
    """Fetches page after page."""
    made = 0

    def answer(request: ModelRequest) -> ModelReply | str:
        nonlocal made
        made += 1
        if made > pages:
            return "done"
        return ModelReply("next", tool_calls=[ToolCall(f"c{made}", "fetch", {"page": made})], usage=usage)

    return FunctionModel(answer)


def run(store: Store, pages: int, *, window: int = 128_000, usage: Usage | None = None) -> Growth:
    budget = ContextBudget(window=window, reserve_output=300)
    agent = ToolCallingAgent([fetch], reading(pages, usage), store=store, context=budget, max_steps=pages + 1)
    return growth(store, agent.run("Read all pages.").run_id)


def test_the_parts_of_a_request_are_the_whole_of_it(store: Store) -> None:
    found = run(store, 30, window=8_000)
    assert len(found.requests) == 31
    for request in found.requests:
        parts = (request.system, request.tools, request.task, request.summary, request.turns)
        assert all(part >= 0 for part in parts)
        assert sum(parts) == request.counted
        assert request.counted + request.reserved <= request.window
        assert request.tools > 0
        assert request.system > 0
        assert request.task > 0
    assert found.requests[-1].summary > 0
    assert any("compaction" in move.what for move in found.moves)
    assert all(move.tokens_after < move.tokens_before for move in found.moves)


def test_it_names_what_made_the_context_grow(store: Store) -> None:
    found = run(store, 12)
    source, messages, tokens = found.sources[0]
    assert (source, messages) == ("fetch", 12)
    assert tokens > sum(other for _, _, other in found.sources[1:])
    assert len(found.largest) == 10
    assert found.largest[0].head.startswith("page 12: lorem")
    assert [weight.tokens for weight in found.largest] == sorted((w.tokens for w in found.largest), reverse=True)
    assert found.largest[0].call == 13


def test_what_the_server_reported_stands_beside_what_was_counted(store: Store) -> None:
    found = run(store, 3, usage=Usage(requests=1, input_tokens=777, cached_tokens=500))
    assert (found.requests[0].reported, found.requests[0].cached) == (777, 500)
    assert found.requests[-1].reported is None  # the last reply did not say


def test_a_failed_request_says_how_it_failed(store: Store) -> None:
    agent = CodeAgent(model=ScriptedModel([ModelError("no", kind="BadRequest")]), store=store)
    with pytest.raises(ModelError) as caught:
        agent.run("x")
    assert caught.value.run_id is not None
    found = growth(store, caught.value.run_id)
    assert [request.failed for request in found.requests] == ["BadRequest"]
    assert found.status == "failed"


def test_specialists_are_named_with_their_runs(store: Store) -> None:
    worker = ToolCallingAgent(model=ScriptedModel(["fine"]), name="worker", description="Works.")
    call = ModelReply(tool_calls=[ToolCall("c", "worker", {"task": "this"})])
    result = ToolCallingAgent(model=ScriptedModel([call, "done"]), managed_agents=[worker], store=store).run("x")
    [(name, run_id)] = growth(store, result.run_id).children
    assert name == "worker"
    assert len(growth(store, run_id).requests) == 1


def observing(turns: int, *, task: str, store: Store, window: int) -> Growth:
    """A run that sees texts that begin like a short task."""
    made = 0

    def answer(request: ModelRequest) -> ModelReply | str:
        nonlocal made
        made += 1
        return "done" if made % (turns + 1) == 0 else "no code " * 40

    model = FunctionModel(answer)
    budget = ContextBudget(window=window, reserve_output=300, compaction="extract")
    agent = CodeAgent(model=model, store=store, context=budget, max_steps=turns + 1)
    return growth(store, agent.run(task).run_id)


def sent(store: Store, turns: Sequence[Sequence[Message]], *, task: str, tokens: int | None = None) -> str:
    """A run whose requests held these messages; the count is right unless `tokens` says another."""
    counter = TokenCounter.for_profile(ModelProfile("m"))

    async def main() -> str:
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task=task, kind="tools", model="m")
        before: list[str] = []
        for step, messages in enumerate(turns, 1):
            now = [journal.keep(message) for message in messages]
            keep = next((n for n, (a, b) in enumerate(zip(now, before, strict=False)) if a != b), min(len(now), len(before)))  # fmt: skip  # noqa: E501
            counted = counter.request + sum(counter.message(message) for message in messages)
            journal.record(
                EventType.MODEL_REQUESTED, step=step, keep=keep, add=now[keep:], tools_digest="", max_output=100,
                tokens=tokens or counted, tools=0, window=8_000,
            )  # fmt: skip
            before = now
        await journal.commit()
        return journal.run_id

    return anyio.run(main)


SYSTEM, BLOCK = Message("system", "Be brief. " * 20), "<wherry:summary>\n- it was so\n- and so\n</wherry:summary>"
SAID, SEEN = Message("assistant", "Let me look. " * 5), Message("user", "Output: " + "found " * 100)


def test_in_a_session_the_task_is_the_runs_own(store: Store) -> None:
    agent = ToolCallingAgent(model=ScriptedModel(["first", "second"]), store=store)
    agent.run("What is the capital of France? " * 30, session="s")
    result = agent.run("And of Spain?", session="s")
    [request] = growth(store, result.run_id).requests
    assert 0 < request.task < 40
    assert request.turns > 200
    [weight] = [weight for weight in growth(store, result.run_id).largest if weight.source == "task"]
    assert weight.head == "And of Spain?"


def test_what_the_summary_of_a_session_is_joined_to_is_told_from_it(store: Store) -> None:
    older, task = Message("user", f"{BLOCK}\n\nAnd of Spain?"), "And of Spain?"
    [request] = growth(store, sent(store, [[SYSTEM, older]], task=task)).requests
    assert request.task > 0
    assert request.summary > 0
    assert request.turns == TokenCounter.for_profile(ModelProfile("m")).request


@pytest.mark.parametrize("task", ["O", "Output: x", "<wherry:", "two\n\nparts"])
def test_what_begins_like_the_task_is_not_the_task(store: Store, task: str) -> None:
    first, folded = Message("user", task), Message("user", f"{task}\n\n{BLOCK}")
    turns = [[SYSTEM, first], [SYSTEM, first, SAID, SEEN], [SYSTEM, folded, SAID, SEEN, SAID, SEEN]]
    found = growth(store, sent(store, turns, task=task))
    one, two, three = found.requests
    assert one.task == two.task == three.task
    assert (one.summary, two.summary) == (0, 0)
    assert three.summary > 0
    assert three.turns > two.turns > one.turns
    assert {weight.source for weight in found.largest if weight.head.startswith("Output: found")} == {
        "output and notes"
    }


def test_a_short_task_of_a_real_run_swallows_nothing(store: Store) -> None:
    found = observing(12, task="O", store=store, window=3_000)
    assert {request.task for request in found.requests} == {found.requests[0].task}
    assert found.requests[-1].summary > 0
    assert all(request.turns > 0 for request in found.requests)


def test_a_task_that_was_cut_again_is_still_the_task(store: Store) -> None:
    whole = Message("user", "Read this: " + "lorem ipsum " * 300)
    cut = Message("user", f"<wherry:offloaded ref=a-0123456789ab>\nRead this: lorem\n</wherry:offloaded>\n\n{BLOCK}")
    turns = [[SYSTEM, whole], [SYSTEM, whole, SAID, SEEN], [SYSTEM, cut, SAID, SEEN, SAID, SEEN]]
    found = growth(store, sent(store, turns, task=whole.content[:2000]))
    tasks = [request.task for request in found.requests]
    assert tasks[0] == tasks[1] > tasks[2] > 0
    assert found.requests[2].summary > 0


def test_the_same_system_prompt_weighs_the_same(store: Store) -> None:
    task = Message("user", "Look.")
    turns = [[SYSTEM, task, *[SAID, SEEN] * number] for number in range(30)]
    requests = growth(store, sent(store, turns, task="Look.")).requests
    assert {(request.system, request.task) for request in requests} == {(requests[0].system, requests[0].task)}
    for request in requests:
        assert request.system + request.tools + request.task + request.summary + request.turns == request.counted


@pytest.mark.slow
@given(tokens=st.integers(1, 20_000), tools=st.integers(0, 3))
def test_whatever_was_counted_the_parts_are_the_whole(tokens: int, tools: int) -> None:
    store = open_store("memory://")
    folded = Message("user", f"Look.\n\n{BLOCK}")
    [request] = growth(store, sent(store, [[SYSTEM, folded, *[SAID, SEEN] * tools]], task="Look.", tokens=tokens)).requests  # fmt: skip  # noqa: E501
    parts = (request.system, request.tools, request.task, request.summary, request.turns)
    assert sum(parts) == tokens
    assert all(part >= 0 for part in parts)


def test_what_a_layer_mended_is_no_failure(store: Store) -> None:
    usage = Usage(requests=1, input_tokens=50).to_json()

    async def main() -> str:
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="Look.", kind="tools", model="m")
        add, request = [journal.keep(Message("user", "Look."))], EventType.MODEL_REQUESTED
        for step in (1, 2, 3):
            journal.record(
                request, step=step, keep=step - 1, add=add, tools_digest="", max_output=9, tokens=99, window=999
            )
            if step < 3:
                journal.record(EventType.MODEL_FAILED, step=step, kind="RateLimited", message="slow", act="next_key")
            if step > 1:
                journal.record(EventType.MODEL_REPLIED, step=step, usage=usage, estimated=step == 2)
        await journal.commit()
        return journal.run_id

    run_id = anyio.run(main)
    assert [request.failed for request in growth(store, run_id).requests] == ["RateLimited", "", ""]
    assert len(question_of(store, run_id).messages) == 1  # of the first request, which had no answer


def test_the_runs_that_wrote_summaries_are_named(store: Store) -> None:
    writer = FunctionModel(lambda request: "no facts", writes_summaries=True)
    budget = ContextBudget(window=8_000, reserve_output=300, summarizer=writer)
    agent = ToolCallingAgent([fetch], reading(30), store=store, context=budget, max_steps=31)
    result = agent.run("Read all pages.")
    ToolCallingAgent(model=ScriptedModel(["other"]), store=store).run("Another.")
    children = growth(store, result.run_id).children
    assert children
    assert {name for name, _ in children} == {"summarizer"}
    assert all(store.run(child).parent_run_id == result.run_id for _, child in children)


def test_no_such_run(store: Store) -> None:
    with pytest.raises(RunNotFound):
        growth(store, "nothing")


def test_the_curve_is_as_wide_as_it_may_be(store: Store) -> None:
    found = run(store, 30, window=8_000)
    lines = drawn(found.requests, width=20, height=5)
    assert len(lines) == 7
    assert max(len(line) for line in lines) == len("8,000 ┤") + 20
    assert drawn([]) == []
    assert "█" in drawn(found.requests[:1])[-3]


@pytest.mark.parametrize(("number", "axis"), [(1, "1"), (2, "1 2"), (9, "1       9"), (12, "1         12")])
def test_the_axis_goes_from_the_first_request_to_the_last(store: Store, number: int, axis: str) -> None:
    assert drawn(run(store, number - 1).requests)[-1].strip() == axis


class Page(HTMLParser):
    """Counts tags, and finds whatever a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_shows_markup_as_text(store: Store) -> None:
    @tool
    def evil() -> str:
        """Get."""
        return "<script>alert(1)</script>" * 20

    call = ModelReply(tool_calls=[ToolCall("c", "evil", {})])
    result = ToolCallingAgent([evil], ScriptedModel([call, "done"]), store=store).run("<img src=x>")
    html = page(growth(store, result.run_id))
    seen = Page()
    seen.feed(html)
    assert "script" not in seen.tags
    assert "img" not in seen.tags
    assert "svg" in seen.tags
    assert seen.fetched == []


def test_the_page_of_a_run_without_requests(store: Store, tmp_path: Path) -> None:
    empty = Growth("r", "a", "m", "failed", exact=False, requests=[], largest=[], sources=[], moves=[], warnings=[],
                   children=[], limits=[])  # fmt: skip
    assert "0 requests" in page(empty)
