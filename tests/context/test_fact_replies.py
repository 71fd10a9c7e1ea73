"""Reading what a model says of the facts of a conversation."""

from __future__ import annotations

import pytest

from wherry.context.fact_replies import NoSummaryError, read_facts


def test_of_a_reply_that_was_cut_what_was_finished_stands() -> None:
    cut = '{"facts": [{"about": "the code", "fact": "it is \\"4711\\""}, {"about": "the door", "fa'
    assert read_facts(cut, "4711") == ['the code: it is "4711"']


def test_what_is_made_up_is_left_out_of_a_cut_reply_too() -> None:
    cut = '{"facts": [{"about": "the code", "fact": "4711"}, {"about": "the year", "fact": "1790"}, {'
    assert read_facts(cut, "in 1790") == ["the year: 1790"]


@pytest.mark.parametrize("text", ["", "{", '{"facts": [{"about": "a", "fact": "b', '{"about": "a' * 4_000])
def test_where_nothing_was_finished_there_is_no_summary(text: str) -> None:
    with pytest.raises(NoSummaryError, match="no JSON"):
        read_facts(text, "")
