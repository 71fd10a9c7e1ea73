"""What snippets print: head and tail, in a fixed amount of memory, also after a kill."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.sandbox.inside.output import Capture, shared_size, written_text


def expected(data: bytes, cap: int) -> str:
    head, tail = cap - cap // 4, cap // 4
    if len(data) <= cap:  # nothing is lost, but the two parts are decoded one by one
        return data[:head].decode("utf-8", "replace") + data[head:].decode("utf-8", "replace")
    lost = f"\n[... {len(data) - cap:,} bytes left out ...]\n"
    return data[:head].decode("utf-8", "replace") + lost + data[len(data) - tail :].decode("utf-8", "replace")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 64))
def test_head_and_tail_are_kept_however_it_is_written(pieces: list[bytes], cap: int) -> None:
    memory = bytearray(shared_size(cap))
    capture = Capture(cap, memory)
    for piece in pieces:
        assert capture.write(piece) == len(piece)
    text = expected(b"".join(pieces), cap)
    assert written_text(bytes(memory), cap) == text
    assert capture.take() == text
    assert capture.take() == ""


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(4, 64))
def test_any_memory_has_a_text(memory: bytes, cap: int) -> None:
    assert len(written_text(memory[: shared_size(cap)], cap)) <= cap + 60
