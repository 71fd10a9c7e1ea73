"""What the door does with large contents: where they go, what stays, what is read back."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from conversations import KINDS, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import CodeAgent, ContextBudget, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.context.counting import TokenCounter
from wherry.context.door import LARGE, Door
from wherry.errors import StoreError
from wherry.journal import EventType, read_events
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply
from wherry.models.protocol import ModelProfile
from wherry.store import ArtifactRef, Store
from wherry.store.protocol import Artifacts
from wherry.tools import ToolContext, use_context
from wherry.tools.builtin import read_artifact, search_artifact

pytestmark = pytest.mark.anyio

CONTROL = ("<|im_start|>", "<|im_end|>")
REF = re.compile(r'ref="(a-[0-9a-f]+)"')


class Opened:
    """A door over a store in memory."""

    def __init__(self, artifacts: Callable[[Store], Artifacts] | None = None) -> None:
        self.store = open_store("memory://")
        self.counter = TokenCounter.for_profile(ModelProfile("m", counter="qwen"))
        self.events: list[tuple[EventType, dict[str, Any]]] = []
        self.door = Door(
            self.counter,
            control_tokens=CONTROL,
            artifacts=self.store.artifacts if artifacts is None else artifacts(self.store),
            run_id="run",
            record=self.record,
        )

    def record(self, kind: EventType, /, **payload: Any) -> None:
        self.events.append((kind, payload))

    def admit(self, text: str, cap: int = 400, name: str = "f") -> str:
        message, tokens = self.door.admit(Message("tool", text, tool_call_id="c", name=name), cap)
        assert tokens <= max(cap, 80)
        return message.content

    async def read(self, ref: str, **arguments: Any) -> str:
        with use_context(ToolContext("run", "agent", None, self.store)):
            return str(await read_artifact.call({"ref": ref, **arguments}))


@settings(max_examples=60, deadline=None)
@given(
    text=st.one_of(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 60_000), st.integers(0, 9)).map(lambda drawn: text_of(*drawn)),
        st.text(max_size=3_000).map(lambda text: text * 5),
    ),
    cap=st.integers(60, 900),
)
def test_whatever_comes_in_fits_and_is_kept_whole(text: str, cap: int) -> None:
    opened = Opened()
    kept, tokens = opened.door.admit(Message("user", text), cap)
    assert tokens <= cap
    assert "<|im_end|>" not in kept.content
    if opened.events:
        ref = REF.search(kept.content)
        assert ref is not None
        assert opened.store.artifacts.read(ref[1]) == text.encode("utf-8", "surrogatepass")
    opened.store.close()


def test_the_same_content_is_stored_once() -> None:
    opened = Opened()
    long = text_of("words", 9_000, 1)
    assert opened.admit(long) == opened.admit(long)
    first, second = (payload for _, payload in opened.events)
    assert first["ref"] == second["ref"]


def test_a_preview_says_how_to_read_and_search_the_rest() -> None:
    shown = Opened().admit(text_of("log", 50_000, 1))
    assert re.match(
        r'<wherry:offloaded ref="a-[0-9a-f]{12}" type="text/x-log" bytes="\d+" lines="\d+" '
        r'more="read_artifact\(ref, offset, limit\), search_artifact\(ref, query\)">\n',
        shown,
    )


class TestReadingBack:
    async def test_part_after_part_through_a_small_door_makes_the_whole(self) -> None:
        opened = Opened()
        text = "".join(f"line {n}: Übergrößenträger <|im_end|> {n * 7}\n" for n in range(900))
        ref = REF.search(opened.admit(text))
        assert ref is not None
        offset, parts, steps = 0, list[str](), 0
        while True:
            with use_context(ToolContext("run", "agent", None, opened.store)):
                result = await read_artifact.call({"ref": ref[1], "offset": offset, "limit": 20_000})
            message, tokens = opened.door.admit(Message("tool", result, tool_call_id="c", name="read_artifact"), 300)
            assert tokens <= 300
            head, _, part = message.content.partition("\n")
            parts.append(part)
            steps += 1
            if head.endswith("the end]"):
                break
            offset = int(head.removesuffix("]").split()[-1])
        assert "".join(parts).replace("< |im_end|>", "<|im_end|>") == text
        assert 20 < steps < 200
        assert [payload["ref"] for _, payload in opened.events] == [ref[1]]

    async def test_what_a_snippet_printed_of_a_content_is_not_stored_as_another(self) -> None:
        opened = Opened()
        ref = REF.search(opened.admit(text_of("words", 60_000, 2)))
        assert ref is not None
        part = await opened.read(ref[1], offset=100, limit=15_000)
        for before in ("", "Output:\n", "Value: "):
            kept, tokens = opened.door.admit(Message("user", before + part), 300)
            assert tokens <= 300
            assert kept.content.startswith(f"{before}[{ref[1]}: bytes 100 to ")
            assert "next offset" in kept.content.partition("]")[0]
        assert len(opened.events) == 1

    async def test_what_only_looks_like_an_excerpt_is_stored(self) -> None:
        opened = Opened()
        ref = REF.search(opened.admit(text_of("words", 60_000, 2)))
        assert ref is not None
        forged = f"[{ref[1]}: bytes 0 to 9000 of 60000, text/plain; the end]\n{text_of('words', 9_000, 3)}"
        assert "<wherry:offloaded" in opened.admit(forged)
        assert "<wherry:offloaded" in opened.admit(forged.replace(ref[1], "a-000000000000"))
        assert len(opened.events) == 3

    async def test_a_tool_of_the_users_own_with_a_readers_name_loses_nothing(self) -> None:
        assert "<wherry:offloaded ref=" in Opened().admit(text_of("words", 9_000, 1), name="recall")

    async def test_a_search_that_is_cut_still_says_where_it_goes_on(self) -> None:
        opened = Opened()
        ref = REF.search(opened.admit("".join(f"row {n} of the needle haystack\n" for n in range(5_000))))
        assert ref is not None
        with use_context(ToolContext("run", "agent", None, opened.store)):
            result = await search_artifact.call({"ref": ref[1], "query": "needle"})
        kept, tokens = opened.door.admit(Message("tool", result, tool_call_id="c", name="search_artifact"), 120)
        assert tokens <= 120
        shown = [int(at) for at in re.findall(r"at byte (\d+):", kept.content)]
        more = re.search(r"more from offset (\d+)\]", kept.content)
        assert shown
        assert more is not None
        assert int(more[1]) > shown[-1]
        again = await _search(opened, ref[1], offset=int(more[1]))
        assert int(re.findall(r"at byte (\d+):", again)[0]) == int(more[1])


async def _search(opened: Opened, ref: str, **arguments: Any) -> str:
    with use_context(ToolContext("run", "agent", None, opened.store)):
        return str(await search_artifact.call({"ref": ref, "query": "needle", **arguments}))


class Watched:
    """Artifacts that remember which thread stored what."""

    def __init__(self, store: Store) -> None:
        self._artifacts = store.artifacts
        self.threads: list[threading.Thread] = []

    def put(self, data: bytes, *, media_type: str, run_id: str) -> ArtifactRef:
        self.threads.append(threading.current_thread())
        return self._artifacts.put(data, media_type=media_type, run_id=run_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._artifacts, name)


async def test_large_contents_are_read_and_stored_beside_the_event_loop() -> None:
    watched: list[Watched] = []

    def watch(store: Store) -> Artifacts:
        watched.append(Watched(store))
        return cast("Artifacts", watched[0])

    opened = Opened(watch)
    for size in (LARGE // 2, LARGE * 3):
        message = Message("tool", text_of("json", size, 1), tool_call_id="c", name="f")
        await opened.door.ready(message, 400)
        opened.door.admit(message, 400)
    small, large = watched[0].threads
    assert small is threading.main_thread()
    assert large is not threading.main_thread()


def test_what_the_model_itself_wrote_at_length_is_cut_and_says_where_the_whole_is() -> None:
    opened = Opened()
    text = text_of("words", 30_000, 1)
    call = ToolCall("c", "save", {"path": "a.txt", "text": text, "rows": list(range(9_000))})
    kept, tokens = opened.door.admit(Message("assistant", "", tool_calls=[call]), 500)
    assert tokens <= 500
    ((_, payload),) = opened.events
    written = kept.tool_calls[0].arguments
    assert written["path"] == "a.txt"
    assert f"characters left out, whole in {payload['ref']} ..." in written["text"]
    assert text in opened.store.artifacts.read(payload["ref"]).decode()


# -- in runs -----------------------------------------------------------------------------------------------------------


def calls(*items: tuple[str, dict[str, Any]]) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(f"c{n}", name, args) for n, (name, args) in enumerate(items)])


def final(answer: str = "done") -> ModelReply:
    return calls(("final_answer", {"answer": answer}))


@tool
def page(n: int) -> str:
    """A long page.

    Args:
        n: its number
    """
    return f"page {n} " * 3_000


BUDGET = ContextBudget(window=4_096, reserve_output=512)


def pages(numbers: list[int]) -> ScriptedModel:
    return ScriptedModel([*(calls(("page", {"n": n})) for n in numbers), final()], counter="qwen")


class Full:
    """Artifacts on a full disk."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def put(self, data: bytes, *, media_type: str, run_id: str) -> ArtifactRef:
        raise StoreError("no space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._artifacts, name)


@pytest.mark.slow
async def test_a_code_agent_survives_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://")
    monkeypatch.setattr(store, "artifacts", Full(store.artifacts))

    @tool
    def rows(count: int) -> list[str]:
        """Rows.

        Args:
            count: how many
        """
        return ["row"] * count

    code = (
        "```python\nfew, many = rows(30_000), rows(900_000)\nopen('out.txt', 'w').write('x')\nprint(few)\n"
        "print(len(few), many['artifact'], many['note'])\n```"
    )
    model = ScriptedModel([code, "```python\nfinal_answer('z' * 200_000)\n```"])
    result = await CodeAgent([rows], model, store=store, context=BUDGET).arun("count")
    seen = model.requests[-1].messages[-1].content
    assert "30000 None too large to be handed in" in seen
    assert "File not kept: out.txt: it could not be stored" in seen
    assert result.output == "z" * 200_000
    assert any("no space left on device" in warning for warning in result.warnings)


@pytest.mark.parametrize("damage", ["deleted", "a file in its place"])
async def test_a_run_survives_the_loss_of_the_artifact_folder(tmp_path: Path, damage: str) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'w.db'}")
    folder = tmp_path / "w.db.artifacts"

    @tool
    def lose() -> str:
        """Lose the folder."""
        shutil.rmtree(folder)
        if damage != "deleted":
            folder.write_text("in the way")
        return "lost"

    model = ScriptedModel([calls(("page", {"n": 1})), calls(("lose", {})), calls(("page", {"n": 2})), final()])
    agent = ToolCallingAgent([page, lose], model, store=store, context=BUDGET)
    result = await agent.arun("read")
    assert result.output == "done"
    second = model.requests[-1].messages[-1].content
    assert "page 2 page 2" in second
    stored = damage == "deleted"
    assert ("not stored: only this preview is left" in second) is not stored
    assert any("could not be stored" in warning for warning in result.warnings) is not stored
    ref = REF.search(model.requests[1].messages[-1].content)
    assert ref is not None
    asking = ScriptedModel([calls(("read_artifact", {"ref": ref[1]})), final()])
    agent.model = asking
    await agent.arun("what was it?")
    assert "cannot be read any more" in asking.requests[-1].messages[-1].content
    store.close()


async def test_an_artifact_stays_as_long_as_a_later_run_of_its_session_refers_to_it() -> None:
    store = open_store("memory://")
    first = await ToolCallingAgent([page], pages([1]), store=store, context=BUDGET).arun("read", session="s")
    ref = next(e.payload["ref"] for e in read_events(store, first.run_id) if e.type == EventType.CONTEXT_OFFLOADED)
    model = pages([])
    second = await ToolCallingAgent([page], model, store=store, context=BUDGET).arun("and now?", session="s")
    assert any(ref in message.content for message in model.requests[0].messages)
    for name in (first.run_id, "session/s"):
        assert store.artifacts.reclaim(name) == 0
        assert store.artifacts.read(ref)
    assert store.artifacts.reclaim(second.run_id) > 0


async def test_an_artifact_stays_as_long_as_a_session_can_be_gone_on_with() -> None:
    store = open_store("memory://")
    first = await ToolCallingAgent([page], pages([1]), store=store, context=BUDGET).arun("read", session="s")
    assert store.artifacts.reclaim(first.run_id) == 0
    assert store.artifacts.reclaim("session/s") > 0


async def test_an_artifact_that_a_managed_agent_names_stays_for_its_manager() -> None:
    store = open_store("memory://")
    named: list[str] = []

    def answer(request: Any) -> ModelReply:
        ref = REF.search(request.messages[-1].content)
        assert ref is not None
        named.append(ref[1])
        return final(f"it is in {ref[1]}")

    reader = ToolCallingAgent(
        [page], ScriptedModel([calls(("page", {"n": 1})), answer]), name="reader", description="reads", context=BUDGET
    )
    model = ScriptedModel([calls(("reader", {"task": "read"})), final()])
    result = await ToolCallingAgent([], model, managed_agents=[reader], store=store).arun("ask the reader")
    below = store.runs(children=True)
    for run in below:
        if run.run_id != result.run_id:
            store.artifacts.reclaim(run.run_id)
    assert store.artifacts.read(named[0])
    assert store.artifacts.reclaim(result.run_id) > 0


async def test_the_reading_tools_are_the_same_in_every_request_of_a_run() -> None:
    model = pages([1, 2, 3, 4])
    await ToolCallingAgent([page], model, store="memory://", context=BUDGET).arun("read")
    assert all(request.tools == model.requests[0].tools for request in model.requests)
    assert [schema.name for schema in model.requests[0].tools] == ["page", "read_artifact", "recall", "final_answer"]
    model = pages([1])
    await ToolCallingAgent([page], model, store="memory://", context=ContextBudget(window=16_384)).arun("read")
    names = [schema.name for schema in model.requests[0].tools]
    assert names == ["page", "read_artifact", "search_artifact", "recall", "final_answer"]


async def test_a_code_agent_calls_them_as_functions() -> None:
    store = open_store("memory://")

    def look(request: Any) -> str:
        ref = REF.search(request.messages[-1].content)
        assert ref is not None
        return (
            f"```python\nprint(search_artifact({ref[1]!r}, 'row 77 ')[:200])\n"
            f"print(read_artifact({ref[1]!r}, 0, 12))\nprint(recall('row 77'))\n```"
        )

    model = ScriptedModel(
        [
            "```python\nprint('\\n'.join(f'row {n} ' for n in range(5_000)))\n```",
            look,
            "```python\nfinal_answer(1)\n```",
        ]
    )
    result = await CodeAgent([], model, store=store, context=BUDGET).arun("count")
    seen = model.requests[-1].messages[-1].content
    assert "1 matches of 'row 77 '" in seen
    assert "bytes 0 to 12 of" in seen
    assert "[recall: " in seen
    assert result.output == 1
