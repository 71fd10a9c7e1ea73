"""The tools that come with wherry, on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import ToolArgumentError, ToolError
from wherry.store import Store, open_store
from wherry.tools import ToolContext, signature, use_context
from wherry.tools.builtin import MemoTool, WebSearch, final_answer_schema, memo, read_artifact
from wherry.tools.builtin.web_search import listing

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> Iterator[Store]:
    with_memory = open_store("memory://")
    with use_context(ToolContext("run-1", "agent", None, with_memory)):
        yield with_memory
    with_memory.close()


async def call(tool: Any, store: Store, **arguments: Any) -> Any:
    with use_context(ToolContext("run-1", "agent", None, store)):
        return await tool.call(arguments)


class TestMemo:
    async def test_set_get_list_delete(self, store: Store) -> None:
        assert await call(memo, store, action="set", key="height", value={"m": 4_810}) == "noted 'height'"
        await call(memo, store, action="set", key="name", value="Mont Blanc")
        assert await call(memo, store, action="get", key="height") == {"m": 4_810}
        assert await call(memo, store, action="list") == {"height": {"m": 4_810}, "name": "Mont Blanc"}
        assert await call(memo, store, action="delete", key="height") == "deleted 'height'"
        assert await call(memo, store, action="delete", key="height") == "there was no 'height'"
        assert await call(memo, store, action="list") == {"name": "Mont Blanc"}

    async def test_it_is_durable(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'notes.db'}"
        first = open_store(url)
        await call(memo, first, action="set", key="a", value=1)
        first.close()
        second = open_store(url)
        assert await call(memo, second, action="get", key="a") == 1
        second.close()

    async def test_scopes_do_not_see_one_another(self, store: Store) -> None:
        await call(MemoTool(scope="other"), store, action="set", key="a", value=1)
        assert await call(memo, store, action="list") == {}

    async def test_mistakes_are_explained(self, store: Store) -> None:
        await call(memo, store, action="set", key="a", value=1)
        with pytest.raises(ToolError, match="memo has no 'b'; it has 'a'"):
            await call(memo, store, action="get", key="b")
        with pytest.raises(ToolError, match="needs a key"):
            await call(memo, store, action="get")
        with pytest.raises(ToolError, match="needs a value"):
            await call(memo, store, action="set", key="a")
        with pytest.raises(ToolArgumentError, match="'set', 'get', 'list' or 'delete'"):
            await call(memo, store, action="push", key="a")

    async def test_outside_of_a_run(self) -> None:
        with pytest.raises(ToolError, match="inside a run"):
            await memo.call({"action": "list"})

    def test_its_line(self) -> None:
        assert signature(memo.schema) == (
            "def memo(action: Literal['set', 'get', 'list', 'delete'], key: str = None, value: Any = None):"
            ' """Keep notes that last: set, get, list or delete a value by its key. action: list needs no key.'
            ' key: the note\'s name. value: what to set."""'
        )


class TestReadArtifact:
    async def test_part_by_part(self, store: Store) -> None:
        text = "0123456789" * 1_000
        ref = store.artifacts.put(text.encode(), media_type="text/plain", run_id="run-1").ref
        first = await call(read_artifact, store, ref=ref, limit=4_000)
        assert first == f"[{ref}: bytes 0 to 4000 of 10000, text/plain; next offset 4000]\n{text[:4000]}"
        last = await call(read_artifact, store, ref=ref, offset=9_990)
        assert last == f"[{ref}: bytes 9990 to 10000 of 10000, text/plain; the end]\n0123456789"
        assert await call(read_artifact, store, ref=ref, offset=-10) == last
        assert "nothing at byte 10000" in await call(read_artifact, store, ref=ref, offset=10_000)
        assert len(await call(read_artifact, store, ref=ref, limit=10**9)) < 20_100
        assert "bytes 0 to 4 of" in await call(read_artifact, store, ref=ref, limit=-5)

    async def test_an_unknown_reference(self, store: Store) -> None:
        with pytest.raises(ToolError, match="copy the ref"):
            await call(read_artifact, store, ref="a-nothing")

    async def test_binary_content_is_shown_as_bytes(self, store: Store) -> None:
        ref = store.artifacts.put(b"\x89PNG\0\0" + bytes(range(256)), media_type="image/png", run_id="run-1").ref
        shown = await call(read_artifact, store, ref=ref)
        assert shown.startswith(f"[{ref}: bytes 0 to 262 of 262, image/png; the end]\n89504e47 0000")

    @settings(max_examples=30, deadline=None)
    @given(text=st.text(min_size=1, max_size=60), limit=st.integers(4, 20))
    def test_the_parts_make_the_whole(self, text: str, limit: int) -> None:
        text = text.replace("\0", "0").replace("\ufffd", "?")
        store = open_store("memory://")

        async def read() -> str:
            data = text.encode()
            ref = store.artifacts.put(data, media_type="text/plain", run_id="r").ref
            out, offset = "", 0
            while offset < len(data):
                head, _, part = (await call(read_artifact, store, ref=ref, offset=offset, limit=limit)).partition("\n")
                out += part
                if head.endswith("the end]"):
                    break
                following = int(head.removesuffix("]").split()[-1])
                assert following > offset
                offset = following
            return out

        try:
            assert anyio.run(read) == text
        finally:
            store.close()


class TestFinalAnswer:
    def test_text_or_a_type(self) -> None:
        assert signature(final_answer_schema()).startswith("def final_answer(answer: str): ")
        schema = final_answer_schema(
            {"title": "Answer", "type": "object", "properties": {"n": {"type": "integer", "title": "N"}}}
        )
        assert schema.parameters["properties"]["answer"] == {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
        }

    def test_a_type_that_holds_itself(self) -> None:
        node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
        schema = final_answer_schema({"$defs": {"Node": node}, "$ref": "#/$defs/Node"})
        assert schema.parameters["properties"]["answer"] == {"$ref": "#/$defs/Node"}
        assert schema.parameters["$defs"] == {"Node": node}


class TestWebSearch:
    async def test_an_empty_query(self) -> None:
        with pytest.raises(ToolError, match="empty"):
            await WebSearch().call({"query": "  "})

    def test_a_listing_is_bounded_and_keeps_every_address(self) -> None:
        found = [{"title": f"T{n}", "href": f"https://example.org/{n}", "body": "word " * 5_000} for n in range(5)]
        text = listing(found, max_chars=1_000)
        assert len(text) <= 1_000
        assert all(f"https://example.org/{n}" in text for n in range(5))
        assert text.startswith("1. T0\n   https://example.org/0\n   word word")
