"""`doctor RUN` says of every request what it was made of, and what made it grow."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from wherry import CodeAgent, ContextBudget, FunctionModel, ScriptedModel, ToolCallingAgent, Usage, open_store, tool
from wherry.doctor.curve import drawn, page
from wherry.doctor.growth import Growth, growth
from wherry.errors import ModelError, RunNotFound
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
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
