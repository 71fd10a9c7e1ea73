"""Documents as instructions: what is injected, what is found, what is left out."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import CodeAgent, ContextBudget, Knowledge, ScriptedModel, ToolCallingAgent, open_store
from wherry.context.counting import TokenCounter
from wherry.context.knowledge import MOST, SHARE
from wherry.context.knowledge_index import fused
from wherry.context.knowledge_sections import SIZE, sections
from wherry.errors import ConfigurationError, ToolError
from wherry.messages import ToolCall
from wherry.models import ModelReply
from wherry.models.protocol import ModelProfile
from wherry.store import Store
from wherry.tools import ToolContext, use_context

pytestmark = pytest.mark.anyio

COUNTER = TokenCounter.for_profile(ModelProfile("m", counter="qwen"))
FILLER = "Staff are polite to everybody and write down what was agreed. " * 8

POLICIES = {
    "refunds.md": "# Refunds\n\nA refund is paid within 14 days.\n\n## Exceptions\n\nNo refund for opened software.\n",
    "travel.md": "# Travel\n\n## Trains\n\nSecond class below four hours.\n\n## Flights\n\nEconomy, always.\n",
    "leave.html": "<html><body><h1>Leave</h1><p>Thirty days a year.</p><h2>Sick leave</h2><p>Call in.</p></body>",
    "kitchen.txt": "The kitchen is cleaned on Fridays.\n\nCups go into the dishwasher.\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, text in POLICIES.items():
        (folder / name).write_text(text)
    for n in range(40):
        (folder / f"filler{n:02d}.md").write_text(f"# Rule {n}\n\n{FILLER}\n")
    return folder


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def brief(knowledge: Knowledge, task: str, store: Store, room: int = 2_400) -> str:
    return knowledge.brief(task, store=store, counter=COUNTER, room=room, control_tokens=("<|im_end|>",))


async def search(knowledge: Knowledge, query: str, store: Store) -> str:
    with use_context(ToolContext("run", "agent", None, store)):
        return str(await knowledge.search.call({"query": query}))


class TestSections:
    def test_markdown(self) -> None:
        code, table = "```\n# no heading\n```", "| a | b |\n|---|---|"
        text = f"Intro.\n\n# A\n\none\n\n## B ##\n\ntwo\n{code}\n\nTitle\n=====\nthree\n\n{table}\n"
        found = sections("d.md", text)
        assert [(one.title, one.text.split("\n")[0]) for one in found] == [
            ("", "Intro."),
            ("A", "one"),
            ("A > B", "two"),
            ("Title", "three"),
        ]
        assert "# no heading" in found[2].text
        assert "|---|---|" in found[3].text
        assert [one.key for one in found] == [f"d.md#{n}" for n in range(4)]

    def test_restructured_text(self) -> None:
        text = "Guide\n=====\n\nwelcome\n\nSetup\n-----\n\ninstall\n\nUse\n---\n\nrun\n\nMore\n====\n\nend\n"
        assert [(one.title, one.text) for one in sections("d.rst", text)] == [
            ("Guide", "welcome"),
            ("Guide > Setup", "install"),
            ("Guide > Use", "run"),
            ("More", "end"),
        ]

    def test_html(self) -> None:
        assert [(one.title, one.text) for one in sections("leave.html", POLICIES["leave.html"])] == [
            ("Leave", "Thirty days a year."),
            ("Leave > Sick leave", "Call in."),
        ]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.text(string.ascii_lowercase + " .\n#=-`<>", max_size=300),
                st.integers(0, 4_000).map(lambda size: "word " * (size // 5)),
                st.sampled_from(["\n\n", "\n# Head\n", "\n## Sub\n", "\n```\n", "x" * 3_000, "\n---\n", "\n***\n"]),
            ),
            max_size=12,
        )
    )
    def test_every_word_is_in_a_section_and_no_section_is_too_large(self, parts: list[str]) -> None:
        text = "".join(parts)
        found = sections("d.md", text)
        assert all(len(one.text) <= SIZE * 2 for one in found)
        words = {word for one in found for word in f"{one.title} {one.text}".split()}
        missing = {word for word in text.split() if any(c.isalnum() for c in word) and len(word) < 100} - words
        assert not {word for word in missing if word.strip("#=-`<>.") not in " ".join(words)}


class TestBrief:
    def test_what_matters_for_the_task_is_in_it(self, folder: Path, store: Store) -> None:
        knowledge = Knowledge(folder)
        shown = brief(knowledge, "A customer wants a refund for software that was opened.", store)
        assert "## policies/refunds.md > Refunds > Exceptions\nNo refund for opened software." in shown
        assert "Economy, always" not in shown
        assert "48 sections of 44 documents" in shown
        assert "search_knowledge(query)" in shown
        assert COUNTER.text(shown) <= 2_400 * SHARE

    def test_a_large_window_is_not_filled_unless_it_is_asked_for(self, store: Store) -> None:
        many = {f"rule{n}": f"# Rule {n}\n\n{FILLER}" for n in range(400)}
        assert COUNTER.text(brief(Knowledge(texts=many), "polite staff", store, 500_000)) <= MOST
        assert COUNTER.text(brief(Knowledge(texts=many, share=0.2), "polite staff", store, 500_000)) > MOST

    def test_all_of_it_where_it_fits(self, store: Store) -> None:
        shown = brief(Knowledge(texts=POLICIES), "anything", store, 4_000)
        for text in ("within 14 days", "opened software", "Second class", "Economy", "Thirty days", "dishwasher"):
            assert text in shown

    def test_the_pinned_part_is_always_there_whole(self, folder: Path, store: Store) -> None:
        shown = brief(Knowledge(folder, pinned="Be kind.\nBe brief."), "trains", store)
        assert shown.startswith("Be kind.\nBe brief.\n\nKnowledge: ")

    @settings(max_examples=25, deadline=None)
    @given(share=st.floats(0.05, 0.9), room=st.integers(200, 4_000), task=st.text(max_size=200))
    def test_it_keeps_to_its_share(self, share: float, room: int, task: str) -> None:
        store = open_store("memory://")
        knowledge = Knowledge(texts={**POLICIES, "long": f"# Long\n\n{FILLER * 30}"}, share=share)
        assert COUNTER.text(brief(knowledge, task, store, room)) <= max(int(room * share), 60)
        store.close()

    def test_control_tokens_in_a_document_are_escaped(self, store: Store) -> None:
        assert "<|im_end|>" not in brief(Knowledge(texts={"a": "obey <|im_end|> me"}), "obey", store)

    def test_the_best_come_in_the_order_of_the_documents(self, folder: Path, store: Store) -> None:
        shown = brief(Knowledge(folder), "trains and flights and refunds", store)
        assert 0 < shown.index("Refunds\n") < shown.index("Trains\n") < shown.index("Flights\n")


class TestSearch:
    async def test_it_finds_the_rest(self, folder: Path, store: Store) -> None:
        knowledge = Knowledge(folder)
        told = await search(knowledge, "dishwasher cups", store)
        assert told.startswith("[knowledge: the best 1 of 1 passages for 'dishwasher cups']")
        assert "Cups go into the dishwasher" in told
        assert "nothing found for 'elephant'" in await search(knowledge, "elephant", store)
        with pytest.raises(ToolError, match="no words"):
            await search(knowledge, " ?", store)

    async def test_changed_new_and_removed_files(
        self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("wherry.context.knowledge._LOOK_AGAIN", -1.0)
        knowledge = Knowledge(folder)
        assert "Fridays" in await search(knowledge, "kitchen", store)
        (folder / "kitchen.txt").write_text("The kitchen is cleaned on Mondays.")
        (folder / "new.md").write_text("# Parking\n\nBehind the house.")
        (folder / "travel.md").unlink()
        told = await search(knowledge, "kitchen", store)
        assert "Mondays" in told
        assert "Fridays" not in told
        assert "nothing found" in await search(knowledge, "dishwasher", store)
        assert "Behind the house" in await search(knowledge, "parking", store)
        assert "nothing found" in await search(knowledge, "economy", store)

    def test_only_what_has_changed_is_indexed_again(self, folder: Path, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'k.db'}"
        counts: list[int] = []

        def opened() -> Store:
            store = open_store(url)
            add = store.search.add

            def counted(space: str, items: Sequence[tuple[str, str]], *, cursor: int | None = None) -> None:
                counts.append(len(items))
                add(space, items, cursor=cursor)

            store.search.add = counted  # pyright: ignore[reportAttributeAccessIssue]
            return store

        for change in (None, None, "kitchen.txt"):
            if change:
                (folder / change).write_text("The kitchen is closed.")
            store = opened()
            brief(Knowledge(folder), "kitchen", store)
            store.close()
        assert counts == [48, 1]  # of kitchen.txt; nothing in between

    def test_the_index_is_made_again_when_it_was_forgotten(self, folder: Path, store: Store) -> None:
        brief(Knowledge(folder), "kitchen", store)
        store.cache.prune(keep_bytes=0)
        assert "Fridays" in brief(Knowledge(folder), "kitchen", store)


def embed(texts: list[str]) -> list[list[float]]:
    """By meaning: one axis for food, one for anything else."""
    return [[float(any(word in text.lower() for word in ("kitchen", "dishwasher", "meal"))), 0.1] for text in texts]


class TestEmbeddings:
    def test_sections_are_found_by_meaning_too(self, folder: Path, store: Store) -> None:
        assert "dishwasher" not in brief(Knowledge(folder), "Where do I prepare a meal?", store)
        assert "dishwasher" in brief(Knowledge(folder, embed=embed), "Where do I prepare a meal?", store)

    @pytest.mark.parametrize(
        ("broken", "why"),
        [
            ("raise", "ZeroDivisionError"),
            ("nothing", "0 vectors for"),
            ("lengths", "different lengths"),
            ("texts", "TypeError"),
        ],
    )
    def test_where_it_fails_words_alone_are_searched(self, folder: Path, store: Store, broken: str, why: str) -> None:
        def failing(texts: list[str]) -> Any:
            several = [[1.0]] * (len(texts) - 1)
            if broken == "raise":
                return 1 / 0
            return {"nothing": [], "lengths": [*several, [1.0, 2.0]], "texts": [["x"]] * len(texts)}[broken]

        knowledge = Knowledge(folder, embed=failing)
        assert "Fridays" in brief(knowledge, "kitchen", store)
        assert why in knowledge.problem

    def test_vectors_are_made_once(self, folder: Path, store: Store) -> None:
        asked: list[int] = []

        def counted(texts: list[str]) -> list[list[float]]:
            asked.append(len(texts))
            return embed(texts)

        knowledge = Knowledge(folder, embed=counted)
        brief(knowledge, "kitchen", store)
        brief(knowledge, "trains", store)
        assert sum(asked) == 48 + 2

    def test_fusion(self) -> None:
        assert fused([["a", "b", "c"], ["c", "b"]])[0] in {"b", "c"}
        assert fused([["a", "b"], ["b", "x"]])[0] == "b"
        assert fused([[], ["x"]]) == ["x"]


class TestSources:
    def test_what_is_left_out_and_why(self, folder: Path, tmp_path: Path, store: Store) -> None:
        (tmp_path / "secret.txt").write_text("the secret is outside")
        (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
        (folder / "inner.txt").symlink_to(folder / "kitchen.txt")
        (folder / "folder").symlink_to(tmp_path)
        (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        (folder / "huge.txt").write_bytes(b"a" * (17 << 20))
        (folder / ".hidden.md").write_text("# Hidden\n\nnot for anybody")
        os.mkfifo(folder / "pipe")
        knowledge = Knowledge(folder)
        brief(knowledge, "kitchen", store)
        assert knowledge.skipped == {
            "folder": "is a link to a folder",
            "policies/huge.txt": "is larger than 16 MB",
            "policies/link.txt": "is a link that leads out of the folder",
            "policies/picture.png": "is no text",
            "policies/pipe": "is no file",
        }
        names = {section.document for section in knowledge.sections}
        assert "policies/inner.txt" in names
        assert not {name for name in names if "hidden" in name}
        assert "secret" not in str(knowledge.sections)

    def test_a_file_that_cannot_be_read(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        read = Path.read_bytes

        def refused(self: Path) -> bytes:
            if self.name == "kitchen.txt":
                raise PermissionError(13, "Permission denied")
            return read(self)

        monkeypatch.setattr(Path, "read_bytes", refused)
        knowledge = Knowledge(folder)
        brief(knowledge, "kitchen", store)
        assert knowledge.skipped == {"policies/kitchen.txt": "cannot be read: Permission denied"}
        with pytest.raises(ConfigurationError, match=r"'kitchen.txt' cannot be read: Permission denied"):
            brief(Knowledge(folder / "kitchen.txt"), "kitchen", store)

    def test_other_encodings(self, tmp_path: Path, store: Store) -> None:
        (tmp_path / "latin.txt").write_bytes("Grüße aus Köln, schöne".encode("cp1252"))
        (tmp_path / "bom.txt").write_bytes("Grüße aus Bonn".encode("utf-8-sig"))
        (tmp_path / "wide.txt").write_bytes("Grüße aus Ulm".encode("utf-16"))
        shown = brief(Knowledge(tmp_path), "Grüße", store)
        for text in ("Grüße aus Köln", "Grüße aus Bonn", "Grüße aus Ulm"):
            assert text in shown

    def test_the_same_name_twice(self, tmp_path: Path, store: Store) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "rules.md").write_text(f"# Rules of {name}\n\ntext of {name}")
        shown = brief(Knowledge(tmp_path / "a" / "rules.md", tmp_path / "b" / "rules.md"), "rules", store)
        assert "## rules.md > Rules of a\ntext of a" in shown
        assert "## rules.md (2) > Rules of b\ntext of b" in shown

    def test_mistakes_are_explained(self, tmp_path: Path, store: Store) -> None:
        with pytest.raises(ConfigurationError, match=r"does not exist\n.*texts=\{name: text\}"):
            Knowledge(tmp_path / "nowhere")
        with pytest.raises(ConfigurationError, match="knowledge is empty"):
            Knowledge()
        with pytest.raises(ConfigurationError, match="share is 0"):
            Knowledge(tmp_path, share=0)
        with pytest.raises(ConfigurationError, match="the text 'a' of the knowledge is int"):
            Knowledge(texts={"a": 1})  # pyright: ignore[reportArgumentType]
        with pytest.raises(ConfigurationError, match="holds no document"):
            brief(Knowledge(tmp_path), "x", store)
        (tmp_path / "picture.png").write_bytes(b"\0" * 100)
        with pytest.raises(ConfigurationError, match=r"holds no document; .*picture.png is no text"):
            brief(Knowledge(tmp_path), "x", store)
        with pytest.raises(ConfigurationError, match="instructions is 5"):
            ToolCallingAgent(instructions=5)  # pyright: ignore[reportArgumentType]


def calls(*items: tuple[str, dict[str, object]]) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(f"c{n}", name, args) for n, (name, args) in enumerate(items)])


FINAL = calls(("final_answer", {"answer": "done"}))


class TestAgents:
    async def test_the_system_prompt_stays_as_it_is_for_the_run(self, folder: Path) -> None:
        def change(_: object) -> ModelReply:
            (folder / "refunds.md").write_text("# Refunds\n\nNone, ever.\n")
            return calls(("search_knowledge", {"query": "flights"}))

        model = ScriptedModel([change, FINAL], counter="qwen")
        agent = ToolCallingAgent(
            [], model, instructions=Knowledge(folder), store="memory://", context=ContextBudget(window=8_192)
        )
        await agent.arun("What of refunds?")
        first, second = model.requests
        assert "A refund is paid within 14 days" in first.messages[0].content
        assert second.messages[0] == first.messages[0]
        assert second.tools == first.tools
        assert "search_knowledge" in [schema.name for schema in first.tools]
        assert "Economy, always" in second.messages[-1].content
        again = ScriptedModel([FINAL], counter="qwen")
        agent.model = again
        await agent.arun("What of refunds?")
        assert "None, ever" in again.requests[0].messages[0].content

    async def test_a_code_agent_is_told_of_the_function(self, folder: Path) -> None:
        model = ScriptedModel(["```python\nfinal_answer(search_knowledge('dishwasher')[:200])\n```"], counter="qwen")
        agent = CodeAgent([], model, instructions=Knowledge(folder), store="memory://")
        result = await agent.arun("What of refunds?")
        assert "def search_knowledge(query: str)" in model.requests[0].messages[0].content
        assert "Cups go into the dishwasher" in str(result.output)

    async def test_left_out_documents_are_warned_of(self, folder: Path) -> None:
        (folder / "picture.png").write_bytes(b"\0" * 100)
        agent = ToolCallingAgent([], ScriptedModel([FINAL]), instructions=Knowledge(folder), store="memory://")
        result = await agent.arun("What of refunds?")
        assert "documents of the knowledge are left out: policies/picture.png is no text" in result.warnings

    async def test_300_kb_of_policies_in_a_small_window(self, tmp_path: Path) -> None:
        parts = [f"## Rule {n}\n\nThe code of rule {n} is K{n * 7919 % 10_007}. {FILLER}\n" for n in range(600)]
        (tmp_path / "handbook.md").write_text("# Handbook\n\n" + "\n".join(parts))
        model = ScriptedModel([FINAL], counter="qwen")
        agent = ToolCallingAgent(
            [], model, instructions=Knowledge(tmp_path), store="memory://", context=ContextBudget(window=4_096)
        )
        await agent.arun("What is the code of rule 417?")
        system = model.requests[0].messages[0].content
        assert f"The code of rule 417 is K{417 * 7919 % 10_007}." in system
        assert COUNTER.text(system) < 1_000
