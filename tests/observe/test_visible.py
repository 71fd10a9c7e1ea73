"""What others wrote cannot act on the terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from wherry.observe.visible import head, one_line, visible

texts = st.text(st.characters(codec=None), max_size=200)  # codec None: lone surrogates too


@given(texts)
def test_nothing_but_newlines_can_control_a_terminal(text: str) -> None:
    shown = visible(text)
    assert {char for char in shown if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")} <= {"\n"}
    shown.encode("utf-8")


@given(texts, st.integers(2, 50))
def test_one_line_is_one_line_of_that_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert "\n" not in line
    assert len(line) <= width


@given(texts, st.integers(1, 5), st.integers(2, 30))
def test_head_keeps_to_its_bounds_and_says_what_it_left_out(text: str, lines: int, width: int) -> None:
    rows, more = head(text, lines, width)
    assert 1 <= len(rows) <= lines
    assert all(len(row) <= width for row in rows)
    assert len(rows) + more == visible(text).strip("\n").count("\n") + 1


def test_escapes_are_spelled_out_and_the_rest_is_as_it_was() -> None:
    assert visible("a\x1b[31mb\x07\u202ec\r\nd\te") == "a\\x1b[31mb\\x07\\u202ec\nd   e"
    assert visible("naïve 中文 [red]") == "naïve 中文 [red]"
