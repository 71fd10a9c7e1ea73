"""What stays of each kind of content."""

from __future__ import annotations

import inspect
import json
import time

import pytest
from conversations import KINDS as TEXTS
from conversations import text_of

from wherry.context.previews import KINDS, kind_of


def preview(text: str, room: int = 800) -> tuple[str, str]:
    kind = kind_of(text)
    return kind.media_type, kind.read(text)(room)


def test_json_shows_its_keys_and_shapes() -> None:
    kind, shown = preview(json.dumps({"rows": [{"id": 1, "tags": ["a"]}] * 500, "next": None, "note": "x" * 900}))
    assert kind == "application/json"
    assert "{rows: [500 x {id: whole number, tags: [1 x text]}], next: null, note: text of 900 characters}" in shown


def test_json_that_is_broken_or_too_deep_is_text() -> None:
    assert "[[[[" in preview("[" * 100_000 + "]" * 100_000)[1]
    assert '{"a": 1' in preview('{"a": 1' + " " * 5_000 + "}}")[1]


def test_csv_shows_its_columns_and_how_many_rows() -> None:
    kind, shown = preview("id;name;born\n" + "".join(f"{n};person {n};{1900 + n % 90}\n" for n in range(4_000)))
    assert kind == "text/csv"
    assert "3 columns: id, name, born\n4,000 lines below the first" in shown
    assert "3999;person 3999" in shown


def test_a_log_shows_its_errors() -> None:
    lines = [f"2026-01-01 10:00:00 INFO step {n}" for n in range(5_000)]
    lines[2_500] = "2026-01-01 10:00:00 ERROR disk on fire"
    kind, shown = preview("\n".join(lines))
    assert kind == "text/x-log"
    assert "5,000 lines, 1 with errors" in shown
    assert "disk on fire" in shown
    assert "INFO step 0\n" in shown
    assert shown.endswith("INFO step 4999")


def test_html_shows_its_title_headings_and_text() -> None:
    page = "<!DOCTYPE html><html><head><title>Ports</title><script>evil()</script></head><body><h1>Hull</h1><p>A port "
    kind, shown = preview(page + "on the Humber. " * 900 + "</p><h2>Trade</h2><p>Fish.</p></body></html>")
    assert kind == "text/html"
    assert shown.startswith("Ports\nheadings: Hull; Trade\n")
    assert "evil" not in shown
    assert "<p>" not in shown


def test_code_shows_what_it_defines_and_where() -> None:
    source = inspect.getsource(json.decoder)
    kind, shown = preview(source, 1_500)
    assert kind == "text/x-source"
    line = source[: source.index("class JSONDecoder(")].count("\n") + 1
    assert f"{line}: class JSONDecoder(object):" in shown


def test_encoded_bytes_are_not_shown_at_length() -> None:
    assert preview(text_of("base64", 50_000, 1))[0] == "application/octet-stream"
    kind, shown = preview("\x00\x01\x7fELF\x02" * 5_000)
    assert kind == "application/octet-stream"
    assert len(shown) < 600


def test_text_shows_its_head_and_tail() -> None:
    kind, shown = preview("It began well. " + "And so on. " * 2_000 + "It ended badly.")
    assert kind == "text/plain"
    assert shown.startswith("It began well.")
    assert shown.endswith("It ended badly.")
    assert "characters left out" in shown


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("room", [0, 7, 60, 300, 5_000])
def test_a_preview_keeps_to_its_room(kind: str, room: int) -> None:
    text = text_of(kind, 60_000, 3)
    for each in KINDS:
        if each.accepts(text):
            assert len(each.read(text)(room)) <= room + 160


@pytest.mark.slow
def test_long_json_is_counted_to_its_end() -> None:
    rows = [{"id": n, "at": [n, n]} for n in range(60_000)]
    assert (
        "{rows: [60,000 x {id: whole number, at: [2 x whole number]}], total: whole number}"
        in preview(json.dumps({"rows": rows, "total": 60_000}))[1]
    )
    assert "shape: [60,000 x {id: whole number, at: [2 x whole number]}]" in preview(json.dumps(rows, indent=1))[1]


def test_json_that_was_cut_shows_the_shape_of_what_is_there() -> None:
    text = json.dumps([{"id": n, "name": f"name {n}"} for n in range(500)])
    for end in (-1, -2, -9, -20, len(text) // 2):
        kind, shown = preview(text[:end])
        assert kind == "application/json"
        assert "without an end" in shown
        assert "x {id: whole number, name: text}" in shown


def test_json_lines() -> None:
    kind, shown = preview("".join(json.dumps({"id": n, "ok": True}) + "\n" for n in range(3_000)))
    assert kind == "application/json"
    assert shown.startswith("3,000 lines of JSON; shape of the first ones: [20 x {id: whole number, ok: true/false}]")


def test_a_log_of_one_huge_line_shows_where_the_error_is() -> None:
    stamped = "2026-01-01 10:00:00 INFO fine\n" * 50
    kind, shown = preview(f"{stamped}{'x ' * 200_000} ERROR in the middle {'y ' * 200_000}\n")
    assert kind == "text/x-log"
    assert "51 lines, 1 with errors" in shown
    assert "ERROR in the middle" in shown


def test_words_that_hold_an_error_word_are_no_errors() -> None:
    stamped = "2026-01-01 10:00:00 INFO terrors unfailed errorless\n"
    assert "100 lines, 0 with errors" in preview(stamped * 100)[1]
    assert "100 lines, 1 with errors" in preview(stamped * 99 + "2026-01-01 İ Error: x\n")[1]


def test_html_of_broken_tags() -> None:
    kind, shown = preview("<html><body><h1>Broken<p>said <b>bold</b><scr<script>x<!-- y --><p>more &lt;3")
    assert kind == "text/html"
    assert shown == "headings: Broken\nBroken\nsaid bold<scr"
    assert "after" in preview("<html><style>p{}</style><p>before<script>if (a<b) {}</script>after")[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<!",
        "<!-- ",
        "<a ",
        "<script>",
        "</",
        "&lt",
        "error ",
        "{",
        '{"a":',
        "[1,",
        '["',
        '"\\',
        "a,b\n",
        "def x(",
        "\n",
    ],
)
@pytest.mark.parametrize("before", ["", "<html><body>", "2026-01-01 INFO x\n" * 40, "["])
def test_no_content_takes_more_time_than_its_length_is_worth(unit: str, before: str) -> None:
    """Two megabytes of each. What grew with the square of the length would take minutes."""
    text = before + unit * (2_000_000 // len(unit))
    started = time.process_time()
    kind_of(text).read(text)(800)
    assert time.process_time() - started < 5
