"""What is picked out of folded turns because nobody could guess it again."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.context.counting import TokenCounter
from wherry.context.exact_values import exact_sentences, is_exact
from wherry.context.facts import FactWriter
from wherry.context.groups import Entry, Group
from wherry.context.summary import Summary
from wherry.messages import Message
from wherry.models import ModelReply, ModelRequest
from wherry.models.protocol import ModelProfile

PROFILE = ModelProfile("m", counter="qwen")


def folded(*texts: str) -> list[Group]:
    return [Group([Entry(Message("tool", text, tool_call_id="c", name="mail"), 1, "")]) for text in texts]


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("The booking has the reference QX-4471.", "QX-4471"),
        ("The price is 3,709.43 euros.", "3,709.43"),
        ("She sails on 12 March.", "12 March"),
        ("It is due on 2026-11-21 at noon.", "2026-11-21"),
        ("I saved it as /srv/cargo/list_v2.csv for later.", "/srv/cargo/list_v2.csv"),
        ("Write to ann.b@example.org about it.", "ann.b@example.org"),
        ("It is at https://example.org/a?b=1 now.", "https://example.org/a?b=1"),
        ("Call +47 22 33 44 55 first.", "+47 22 33 44 55"),
        ("The hash begins with 9f3ac2b1.", "9f3ac2b1"),
    ],
)
def test_a_sentence_with_an_exact_value_is_found_among_others(sentence: str, value: str) -> None:
    text = f"The weather was calm, as on most days. {sentence} People talked for a while."
    (found,) = exact_sentences(folded(text))
    assert found.text == f"mail: {sentence}"
    assert value in found.values
    assert is_exact(sentence)


def test_a_decision_about_somebody_counts_and_a_common_word_alone_does_not() -> None:
    assert exact_sentences(folded("I decided: Alma Reyes signs, nobody else."))
    assert not exact_sentences(folded("It must be nice there. We only looked."))


def test_of_lines_that_differ_in_numbers_only_one_is_taken() -> None:
    log = "\n".join(f"2026-11-21 12:00:{n:02d} INFO worker {n} took {n * 3} ms" for n in range(50))
    found = exact_sentences(folded(log, "The code of the door is 88-41-A."))
    assert [exact.text for exact in found] == [
        "mail: 2026-11-21 12:00:00 INFO worker 0 took 0 ms",
        "mail: The code of the door is 88-41-A.",
    ]


def test_a_long_line_is_cut_around_its_value() -> None:
    (found,) = exact_sentences(folded("word " * 400 + "QX-4471 " + "word " * 400))
    assert "QX-4471" in found.text
    assert len(found.text) < 200


@given(st.text(max_size=400))
def test_any_text_will_do(text: str) -> None:
    for exact in exact_sentences(folded(text)):
        assert exact.score > 0


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "a-" * 10_000, "1 " * 10_000, "/a" * 10_000, "." * 20_000, "+1((((" * 3_000, "a@" * 10_000]
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    exact_sentences(folded(text))
    assert time.process_time() - started < 1.0


@pytest.mark.anyio
async def test_they_stand_in_the_extract_and_outlive_later_heads() -> None:
    summary = Summary(TokenCounter.for_profile(PROFILE), task="", control_tokens=(), writer=None)
    await summary.fold(folded("It rained. The code of the door is 88-41-A. It was late.", *["It rained."] * 5), 256)
    for _ in range(8):
        await summary.fold(folded(*["People talked for a while about nothing that matters."] * 6), 256)
    message = summary.message(256)
    assert message is not None
    assert "88-41-A" in message.content


@pytest.mark.anyio
async def test_a_summary_does_not_say_the_task_again_nor_the_same_twice() -> None:
    task = "Prepare the loading of the Petrel."

    async def say(_: ModelRequest) -> ModelReply:
        return ModelReply(f'{{"facts": [{{"about": "Bo", "fact": "is ill"}}], "decisions": [], "open": ["{task}"]}}')

    async def ready() -> tuple[ModelProfile, int]:
        return PROFILE, 4_096

    writer = FactWriter(say, ready=ready, task=task)
    summary = Summary(TokenCounter.for_profile(PROFILE), task=task, control_tokens=(), writer=writer)
    for _ in range(3):
        assert await summary.fold(folded("Bo is ill today."), 512) == "summary"
    message = summary.message(512)
    assert message is not None
    assert message.content.count("- Bo: is ill") == 1
    assert task not in message.content
