"""What is said is stored once, however many see it, and is read back byte for byte."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry import FunctionModel, GroupChat, RunStatus, ToolCallingAgent, open_store
from wherry.errors import StoreError
from wherry.journal import EventType, messages_of_request, read_events, verify
from wherry.journal.quoting import quotable, quoting
from wherry.journal.reading import schemas_of_request
from wherry.journal.retention import prune
from wherry.messages import Message, Role, digest
from wherry.models import ModelRequest
from wherry.store import Batch, Store
from wherry.store.composed import MARK, bases_of, in_pieces, whole

NAMES = ("ann", "bo", "cy", "dee", "eli")


def text_of(size: int, chance: random.Random) -> str:
    """Random words: nothing that could be kept in less room."""
    return " ".join(f"{chance.getrandbits(40):x}" for _ in range(size // 11))


def stored_bytes(path: Path) -> int:
    """Of all messages, as they are stored."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT sum(length(body)) FROM messages").fetchone()[0]


def party(store: Store, rounds: int, window: int, seen: dict[str, list[ModelRequest]]) -> tuple[GroupChat, list[int]]:
    chance, said = random.Random(7), list[int]()

    def member(name: str) -> ToolCallingAgent:
        def answer(request: ModelRequest) -> str:
            seen.setdefault(name, []).append(request)
            text = text_of(10_000, chance)
            said.append(len(text))
            return text

        return ToolCallingAgent((), FunctionModel(answer, window=window), name=name, description="Talks.")

    return GroupChat(map(member, NAMES), speaker="round_robin", max_rounds=rounds, store=store), said


@pytest.mark.slow
@pytest.mark.parametrize("window", [8_192, 32_768])
def test_five_who_say_ten_kilobytes_each_are_stored_once(tmp_path: Path, window: int) -> None:
    path = tmp_path / "wherry.db"
    store, seen = open_store(f"sqlite:///{path}"), dict[str, list[ModelRequest]]()
    group, said = party(store, 60, window, seen)
    result = group.run("Talk about harbours.")
    assert result.status is RunStatus.COMPLETED
    assert len(said) == 60
    assert stored_bytes(path) < 1.2 * sum(said)
    verify(store, result.run_id)
    turns = [e.payload for e in read_events(store, result.run_id) if e.type is EventType.AGENT_CALLED]
    for number, name in ((7, "cy"), (33, "dee"), (59, "eli")):
        run_id = turns[number]["run_id"]
        verify(store, run_id)
        request = seen[name][number // 5]
        assert messages_of_request(store, run_id, 1) == list(request.messages)
        assert schemas_of_request(store, run_id, 1) == list(request.tools)
    last = list(read_events(store, turns[59]["run_id"]))[-1].payload
    assert last["output"] is None
    assert Message.decode(store.message(last["said"])).content == result.output
    store.close()


def test_what_others_are_made_of_outlives_pruning(tmp_path: Path) -> None:
    store, seen = open_store(f"sqlite:///{tmp_path / 'wherry.db'}"), dict[str, list[ModelRequest]]()
    group, _ = party(store, 12, 32_768, seen)
    result = group.run("Talk about harbours.")
    before = [said.text for said in group.transcript(result.run_id).read()]
    assert prune(store, before=1e12).runs
    assert [said.text for said in group.transcript(result.run_id).read()] == before
    store.close()


def encoded(text: str, role: Role = "assistant") -> bytes:
    return Message(role, text).encode()


@pytest.mark.slow
@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.text(max_size=30), st.integers(0, 2), st.booleans()), max_size=5),
    texts=st.lists(st.text(min_size=300, max_size=700), min_size=3, max_size=3),
)
def test_a_body_in_pieces_is_what_it_was(parts: list[tuple[str, int, bool]], texts: list[str]) -> None:
    bodies = {digest(body): body for body in map(encoded, texts)}
    content = "".join(
        between + (texts[number] if full else f"{texts[number][:260]}\n[... left out ...]\n{texts[number][-260:]}")
        for between, number, full in parts
    )
    body = encoded(content, "user")
    others = [one for name, other in bodies.items() if (one := quotable(name, other)) is not None]
    made = quoting(body, others)
    if made is None:
        return
    assert made.startswith(MARK)
    assert bases_of(made) <= bodies.keys()
    assert whole(made, bodies.__getitem__) == body


def test_what_is_repeated_takes_a_range(tmp_path: Path) -> None:
    text = text_of(10_000, random.Random(3))
    body = encoded(text)
    name = digest(body)
    one = quotable(name, body)
    assert one is not None
    other = encoded(f'<wherry:said by="ann"/>\n{text}\n\nYour turn.', "user")
    made = quoting(other, [one])
    assert made is not None
    assert len(made) < 300
    store = open_store(f"sqlite:///{tmp_path / 'wherry.db'}")
    store.append(Batch(messages=((name, body), (digest(other), made)))).result()
    assert store.message(digest(other)) == other
    assert store.messages([digest(other), name]) == {digest(other): other, name: body}
    store.close()


def test_a_missing_part_is_told() -> None:
    store = open_store("memory://")
    body = encoded("x" * 2_000)
    made = in_pieces([b"a", ("0" * 64, 0, 10)])
    store.append(Batch(messages=((digest(body), made),))).result()
    assert store.messages([digest(body)]) == {}
    with pytest.raises(StoreError, match="no message 0000"):
        store.message(digest(body))
    store.close()


@pytest.mark.parametrize(
    "damaged", [MARK, MARK + b"{}", MARK + b"[[1]]", MARK + b'[["x"],[[1,2,3]]]', MARK + b"[[],[7]]"]
)
def test_damaged_pieces_are_told(damaged: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        whole(damaged, lambda name: b"")


def test_pieces_that_never_end_are_told() -> None:
    made = in_pieces([("0" * 64, 0, 10)])
    with pytest.raises(StoreError, match="never end"):
        whole(made, lambda name: made)


def test_a_large_reply_that_is_refused_is_made_smaller_for_the_next_request() -> None:
    store = open_store("memory://")
    texts = [text_of(30_000, random.Random(5)), "short"]
    sizes: list[int] = []

    def answer(request: ModelRequest) -> str:
        sizes.append(sum(len(message.content) for message in request.messages))
        return texts.pop(0)

    ann = ToolCallingAgent(
        (),
        FunctionModel(answer, window=8_192),
        name="ann",
        final_answer_checks=[lambda answer: "too long" if len(answer) > 100 else None],
    )
    result = GroupChat([ann], speaker="round_robin", max_rounds=1, store=store).run("go")
    assert result.output == "short"
    assert sizes[1] < 20_000
    store.close()
