"""Searching stored content with expressions that a model wrote."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import StoreError, ToolError
from wherry.store import Store, open_store
from wherry.tools import ToolContext, use_context
from wherry.tools.builtin import patterns, read_artifact, search_artifact

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> Iterator[Store]:
    store = open_store("memory://")
    yield store
    store.close()


def put(store: Store, text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return store.artifacts.put(data, media_type="text/plain", run_id="run").ref


async def search(store: Store, ref: str, query: str, **rest: int) -> str:
    with use_context(ToolContext("run", "agent", None, store)):
        return str(await search_artifact.call({"ref": ref, "query": query, **rest}))


async def test_it_shows_the_line_and_the_byte_to_read_from(store: Store) -> None:
    text = "\n".join(f"row {n}: Straße {n}" for n in range(20_000))
    ref = put(store, text)
    told = await search(store, ref, r"straße 1999[89]$")
    head, first, second = told.split("\n")
    assert head == f"[{ref}: 2 matches of 'straße 1999[89]$' in bytes 0 to {len(text.encode())}]"
    assert first.endswith(": row 19998: Straße 19998")
    at = re.match(r"at byte (\d+):", second)
    assert at is not None
    with use_context(ToolContext("run", "agent", None, store)):
        assert "\nStraße 19999" in await read_artifact.call({"ref": ref, "offset": int(at[1])})


async def test_a_query_that_is_no_expression_is_taken_letter_by_letter(store: Store) -> None:
    ref = put(store, "total = price(USD [net])\n" * 3)
    assert "3 matches of 'price(USD [net])'" in await search(store, ref, "price(USD [net])")
    told = await search(store, ref, "[net])")
    assert "3 matches" in told
    assert "searched letter by letter, for it is no expression: " in told
    assert "invalid perl operator: (?=" in await search(store, ref, "(?=price)x")
    assert "0 matches" in await search(store, ref, "[a-c]x+")


async def test_matches_are_counted_and_gone_through_page_by_page(store: Store) -> None:
    ref = put(store, "needle in a line\n" * 100)
    offset, seen = 0, list[int]()
    while True:
        told = await search(store, ref, "needle", offset=offset)
        seen += [int(at) for at in re.findall(r"at byte (\d+):", told)]
        more = re.search(r"more from offset (\d+)\]", told)
        if more is None:
            break
        offset = int(more[1])
    assert seen == [n * 17 for n in range(100)]
    assert "3 matches" in await search(store, ref, "needle", offset=-51)
    assert "0 matches" in await search(store, ref, "needle", offset=10**12)


async def test_few_but_huge_lines(store: Store) -> None:
    text = "a" * 300_000 + " needle " + "b" * 300_000
    told = await search(store, put(store, text), "needle")
    line = told.split("\n")[1]
    assert line.startswith("at byte 300001: …aaa")
    assert line.endswith("bbb…")
    assert len(line) < 400


@settings(max_examples=40, deadline=None)
@given(
    before=st.integers(0, 90_000),
    filler=st.sampled_from(["a", "ab\n", "é", "xyz ", "\n"]),
    gap=st.integers(1, 70_000),
)
def test_no_match_is_lost_or_told_twice_between_two_pieces(before: int, filler: str, gap: int) -> None:
    text = filler * before + "NEEDLE" + filler * gap + "needle" + filler
    data = text.encode()
    wanted = [match.start() for match in re.finditer(rb"(?i)needle", data)]
    progress = patterns.Progress(0)
    found = patterns.matches(
        patterns.compiled("needle"),
        lambda offset, limit: data[offset : offset + limit],
        start=0,
        size=len(data),
        progress=progress,
    )
    assert [one.start for one in found] == wanted
    assert progress.at == len(data)


@pytest.mark.parametrize(
    "query",
    ["(a+)+$", "(a|aa)+$", "(a|a?)+b", "(.*a){20}c", "((a|b){0,24}){10}c", "(?i)(?:[a-z]{0,60}\\w{0,20}){5}!", "a+b"],
)
async def test_no_expression_holds_up_anything(store: Store, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these take Python's own engine longer than anybody waits."""
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    ref = put(store, "a" * 200_000 + "!")
    try:
        told = await search(store, ref, query)
    except ToolError as error:
        assert "too large" in error.message  # noqa: PT017
    else:
        assert told.startswith(f"[{ref}: ")


async def test_out_of_time_it_says_how_far_it_came(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", -1.0)
    told = await search(store, put(store, "a" * 100), "b")
    assert "the time was up; offset 0 goes on" in told


async def test_content_that_is_no_text(store: Store) -> None:
    told = await search(store, put(store, b"\x89PNG\0\xff\xfe needle \0\xff\n" * 50), "needle")
    assert "50 matches" in told
    assert "\0" not in told


async def test_mistakes_are_explained(store: Store) -> None:
    ref = put(store, "text")
    for query, said in [
        (" ", "the query is empty"),
        ("x" * 2_000, "2,000 characters"),
        ("x*", r"matches the empty text, which is everywhere: use \+"),
        ("(.{0,900}x)", "too large: use fewer or smaller repetitions"),
    ]:
        with pytest.raises(ToolError, match=said):
            await search(store, ref, query)
    with pytest.raises(ToolError, match="copy the ref from a preview"):
        await search(store, "a-nothing", "x")


async def test_content_that_is_gone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(ref: str, offset: int = 0, limit: int | None = None) -> bytes:
        raise StoreError("the disk is broken")

    ref = put(store, "text")
    monkeypatch.setattr(store.artifacts, "read", lost)
    with pytest.raises(ToolError, match="cannot be read any more: the disk is broken; only its preview is left"):
        await search(store, ref, "text")


async def test_without_the_engine_letters_are_searched(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    told = await search(store, put(store, "a.c abc"), "A.C")
    assert "1 matches" in told
    assert "google-re2, which is not installed" in told
