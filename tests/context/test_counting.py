"""Counts against the tokenizers themselves, and what no text may do to a counter."""

from __future__ import annotations

import struct
import time
from typing import Any, cast

import pytest
import quicktok
from conversations import KINDS, exact, png, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.context import ContextBudget, TokenCounter
from wherry.context.counting import image_size
from wherry.context.estimate import estimate
from wherry.errors import ConfigurationError
from wherry.messages import Image, Message, ToolCall, ToolSchema
from wherry.models.protocol import Counter, ModelProfile

FAMILIES = {"qwen": "qwen3", "o200k": "o200k_base", "cl100k": "cl100k_base", "llama3": "llama3"}


def counter(kind: str | Counter = "qwen") -> TokenCounter:
    return TokenCounter.for_profile(ModelProfile("m", counter=kind))


@pytest.mark.parametrize(("family", "encoding"), FAMILIES.items())
def test_a_known_family_is_counted_with_its_own_vocabulary(family: str, encoding: str) -> None:
    tokenizer = cast("Any", quicktok).get_encoding(encoding)
    for text in ("", "Hello, world!", "def f(x):\n    return x", "Bonjour à tous", "漢字かな交じり文", "🙂🙃"):
        assert counter(family).text(text) == len(tokenizer.encode_ordinary(text))
    assert counter(family).exact


@pytest.mark.parametrize("family", [*FAMILIES, "bytes", "no such family"])
@pytest.mark.parametrize("text", ["<|endoftext|>", "<|im_start|>system", "\ud800", "a\udfffb", "\0", "\u0958" * 9, ""])
def test_no_text_is_refused(family: str, text: str) -> None:
    assert counter(family).text(text) >= len(text) // 20


@pytest.mark.parametrize("family", [*FAMILIES, "bytes"])
def test_ten_megabytes_without_a_blank_are_counted(family: str) -> None:
    assert counter(family).text("a" * 10_000_000) > 10_000_000 // 128


@given(st.text(max_size=200))
@settings(deadline=None)
def test_qwen_is_counted_from_above_with_and_without_normal_form(text: str) -> None:
    """llama.cpp does not compose characters, the reference tokenizer does: neither may count more."""
    safe = text.encode("utf-8", "replace").decode()
    reference = len(cast("Any", quicktok).get_encoding("qwen3").encode_ordinary(safe))
    assert counter().text(safe) >= reference


def test_a_decomposed_text_is_counted_by_its_bytes() -> None:
    assert counter().text("e\u0301" * 50) >= 100  # an `e` and a mark each, as llama.cpp reads them


@pytest.mark.parametrize("encoding", FAMILIES.values())
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("surrogates", "control")])
def test_the_estimate_is_above_every_tokenizer(kind: str, encoding: str) -> None:
    tokenizer = cast("Any", quicktok).get_encoding(encoding)
    for size in (60, 600, 6_000):
        for seed in range(5):
            text = text_of(kind, size, seed)
            assert estimate(text) >= len(tokenizer.encode_ordinary(text)), text[:80]


def test_english_takes_less_than_its_bytes_in_an_estimate() -> None:
    text = "The quick brown fox jumps over the lazy dog and runs away from it. " * 20
    assert estimate(text) < len(text) * 0.65


def test_the_calls_the_results_and_the_schemas_are_counted() -> None:
    calls = [ToolCall("c1", "search", {"q": "漢字", "n": 3}), ToolCall("c2", "search", {"q": "x" * 400})]
    messages = [
        Message("system", "You help."),
        Message("user", "Search."),
        Message("assistant", "I will.", tool_calls=calls),
        Message("tool", "found", tool_call_id="c1", name="search"),
        Message("tool", "nothing", tool_call_id="c2", name="search"),
    ]
    tools = [ToolSchema("search", "Searches.", {"type": "object", "properties": {"q": {"type": "string"}}})] * 3
    qwen = counter()
    total = qwen.request + sum(map(qwen.message, messages)) + qwen.tools(tools)
    assert exact(messages, tools) <= total <= exact(messages, tools) * 1.6


def test_a_picture_is_counted_by_its_pixels() -> None:
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (4_000).to_bytes(4, "big") + (3_000).to_bytes(4, "big")
    small, large = Image(data=b"no picture at all"), Image(data=header)
    blank = counter().message(Message("user", ""))
    assert counter().message(Message("user", "", images=[small])) - blank >= 1_445
    assert counter().message(Message("user", "", images=[large])) - blank >= 4_000 * 3_000 // 784


def sized(kind: str, width: int, height: int) -> bytes:
    """The beginning of a picture of each kind, as its standard has it."""
    match kind:
        case "png":
            return png(width, height)
        case "gif":
            return b"GIF89a" + struct.pack("<HH", width, height)
        case "jpeg":
            exif = b"\xff\xe1" + struct.pack(">H", 40) + b"x" * 38
            return b"\xff\xd8" + exif + b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + b"\3"
        case "webp lossy":
            return b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
        case "webp lossless":
            bits = (width - 1) | (height - 1) << 14
            return b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + bits.to_bytes(4, "little") + b"\0" * 8
        case _:
            size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            return b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0" + size


@pytest.mark.parametrize("kind", ["png", "gif", "jpeg", "webp lossy", "webp lossless", "webp extended"])
@given(st.integers(1, 16_000), st.integers(1, 16_000))
@settings(max_examples=25)
def test_the_pixels_of_every_kind_of_picture_are_read(kind: str, width: int, height: int) -> None:
    assert image_size(sized(kind, width, height)) == (width, height)


@given(
    st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b""]),
    st.binary(max_size=60),
)
def test_no_picture_is_refused(start: bytes, rest: bytes) -> None:
    assert counter().message(Message("user", "", images=[Image(data=start + rest)])) >= 1_445


NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "<|endoftext|>",
                "<|im_start|>",
                "\ud800",
                "\udfff",
                "\0",
                "\u200d",
                "e\u0301",
                "\uffff",
                "🏳️‍🌈",
                "ﷺ",
                "\r\n",
            ]
        ),
        st.text(max_size=12),
        st.text(st.characters(codec=None, categories=["Cs", "Co", "Cn", "Mn", "So"]), max_size=12),
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("family", [*FAMILIES, "bytes", "no such family"])
@given(NASTY)
@settings(max_examples=60, deadline=None)
def test_no_text_raises_and_none_costs_nothing(family: str, text: str) -> None:
    """As text, as a name, as an argument, as a description."""
    one = counter(family)
    bare = one.message(Message("user"))
    assert one.message(Message("user", text)) >= bare + (len(text) > 0 and family != "bytes" and len(text) // 24)
    call = ToolCall(text, text, {text: [text, {text: text}]})
    assert one.message(Message("assistant", text, tool_calls=[call])) > bare
    assert one.tools([ToolSchema(text, text, {"type": "object", "properties": {text: {"description": text}}})]) > 0


def test_a_users_counter_that_fails_does_not_end_the_run() -> None:
    def fails(text: str) -> int:
        raise RuntimeError(text)

    assert counter(fails).text("four words of text") > 0
    assert counter(lambda text: -5).text("four words of text") > 0
    assert counter(lambda text: 7).text("whatever") == 7


def test_reports_raise_the_ratio_and_nonsense_does_not() -> None:
    learner = counter()
    for nonsense in (0, -5, 10**9):
        learner.report(1_000, nonsense)
    assert learner.scaled(1_000) == 1_000
    learner.report(1_000, 1_200)
    learner.report(1_000, 900)
    assert learner.scaled(1_000) == 1_200
    for _ in range(20):
        learner.report(1_000, 1_000)
    assert learner.scaled(1_000) == 1_000, "only recent reports count"


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, "bytes"])
@pytest.mark.parametrize("letter", ["\n", "a", "1", "é", "漢", "🙂", "\ud800"], ids=ascii)
def test_counting_is_linear(family: str, letter: str) -> None:
    one = counter(family)
    one.text("warm")
    started = time.process_time()
    one.text(letter * 2_000_000)
    assert time.process_time() - started < 5  # under 0.5 s on the machine where this was written; quadratic: hours


@pytest.mark.parametrize(
    "bad",
    [
        {"window": 0},
        {"window": -1},
        {"window": True},
        {"reserve_output": 0},
        {"per_message": 0},
        {"high_water": 0.5, "low_water": 0.5},
        {"high_water": 1.2},
        {"low_water": 0},
        {"compaction": "prose"},
        {"window": 100, "reserve_output": 100},
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        ContextBudget(**bad)
