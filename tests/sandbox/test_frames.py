"""The wire: hostile bytes make a `FrameError` and nothing else."""

from __future__ import annotations

import contextlib
import json
import struct
import time
import tracemalloc
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.sandbox.frames import (
    MAX_CONTAINERS,
    MAX_FRAME,
    Call,
    Decoder,
    Done,
    Final,
    FrameError,
    Ready,
    encode,
    parse,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def is_no_tag(value: Any) -> bool:
    """Whether it could be in a frame: a dict of one key that begins with `~` is written in another form."""
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return not (len(inner) == 1 and next(iter(inner)).startswith("~")) and all(map(is_no_tag, inner.values()))
    return all(map(is_no_tag, cast("list[Any]", value))) if isinstance(value, list) else True


KEYS = st.sampled_from(["t", "n", "id", "name", "args", "kw", "value", "kind", "error", "stdout", "cpu", "has_value"])
OBJECTS = st.dictionaries(KEYS, VALUES | st.sampled_from(["call", "done", "final", "ready"]))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | OBJECTS.map(lambda o: json.dumps(o).encode()))
def test_any_body_is_a_frame_or_a_frame_error(body: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert isinstance(parse(body), Ready | Call | Final | Done)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20))
def test_any_stream_is_decoded_in_bounds(data: bytes, cuts: list[int]) -> None:
    decoder = Decoder()
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        decoder.feed(piece)
        try:
            while decoder.next() is not None:
                pass
        except FrameError:
            return


@pytest.mark.slow
@given(VALUES.filter(is_no_tag), st.integers(1, 7))
@settings(deadline=None)
def test_a_final_value_survives_whatever_pieces_it_comes_in(value: Any, size: int) -> None:
    data = encode({"t": "final", "value": value})
    decoder = Decoder()
    frames: list[Any] = []
    for start in range(0, len(data), size):
        decoder.feed(data[start : start + size])
        frame = decoder.next()
        if frame is not None:
            frames.append(frame)
    assert [frame.value for frame in frames] == [value]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{not json",
        b"[1]",
        b"\xff\xfe",
        b'{"t":"final","value":{"~what":1}}',
        b'{"t":"final","value":{"~bytes":"#"}}',
        b'{"t":"final","value":{"~int":"ff"}}',
        b'{"t":"final","value":{"~set":[[]]}}',
        b'{"t":"final","value":{"~dict":[[1,2],[1]]}}',
        b'{"t":"final","value":{"~decimal":"1e99999999999999999999999"}}',
        b'{"t":"final","value":{"~decimal":"1e999999"}}',
        b'{"t":"final","value":{"~datetime":"yesterday"}}',
        b'{"t":"final","value":{"~timedelta":[1e9,0,0]}}',
        b'{"t":"final","value":{"~timedelta":[999999999999,0,0]}}',
        b'{"t":"final","value":{"~array":["<f8",[2],"AAAA"]}}',
        b'{"t":"final","value":{"~array":["<f8",[-1],""]}}',
        b'{"t":"final","value":{"~array":["|O",[1],"AAAAAAAAAAA="]}}',
        b'{"t":"final","value":{"~array":["object",[1000000,1000000,0],[]]}}',
        b'{"t":"final","value":{"~table":[["a"],[["object",[1],[1]],["object",[2],[1,2]]],null]}}',
        b'{"t":"final","value":{"~array":["object",[1],[' + b"[" * 120 + b"]" * 120 + b"]]}}",
        b'{"t":"done","id":1,"clock":{"time":[1.5]}}',
        b'{"t":"done","id":1,"clock":[1]}',
        b'{"t":"done","id":1,"clock":{"time":[' + b"1," * 1000 + b"1]}}",
        b'{"t":"call","n":1,"name":"f","args":[],"kw":{"~dict":[[1,2]]}}',
        b'{"t":"final","value":' + b"9" * 5000 + b"}",
        b'{"t":"final","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"t":"final","value":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"t":"call","n":1,"name":"f","args":7,"kw":{}}',
        b'{"t":"call","n":true,"name":"f","args":[],"kw":{}}',
        b'{"t":"done","id":1,"kind":"killed"}',
        b'{"t":"done","id":1,"cpu":-1}',
        b'{"t":"else"}',
    ],
)
def test_invalid_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        parse(body)


@pytest.mark.slow
def test_keys_whose_hashes_collide_are_refused_quickly() -> None:
    """A table of them takes time that is quadratic in their number: a frame of 8 MiB, hours."""
    pairs = ",".join(f"[{n * ((1 << 61) - 1)},0]" for n in range(1, 200_000))
    keys = ",".join(str(n * ((1 << 61) - 1)) for n in range(1, 200_000))
    started = time.process_time()
    for body in (f'{{"~dict":[{pairs}]}}', f'{{"~set":[{keys}]}}'):
        with pytest.raises(FrameError, match="collide"):
            parse(f'{{"t":"final","value":{body}}}'.encode())
    assert time.process_time() - started < 10


def test_length_over_the_limit_is_refused_before_it_is_read() -> None:
    decoder = Decoder()
    decoder.feed(struct.pack("!I", MAX_FRAME + 1))
    with pytest.raises(FrameError, match="allowed"):
        decoder.next()


def test_message_over_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError, match="do not fit"):
        encode({"t": "set", "value": "v" * MAX_FRAME})


@pytest.mark.parametrize("most", [16, 17])
def test_no_hash_may_occur_often_even_among_many_that_differ(most: int) -> None:
    alike = [n * ((1 << 61) - 1) for n in range(most)]
    many = [*alike, *range(1, 20_000)]
    body = json.dumps({"t": "final", "value": [{"~set": many}, {"~dict": [[n, 0] for n in many]}]}).encode()
    if most > 16:
        with pytest.raises(FrameError, match="collide"):
            parse(body)
        with pytest.raises(FrameError, match="collide"):
            parse(json.dumps({"t": "final", "value": {"~set": alike}}).encode())
    else:
        assert parse(body) == Final([set(many), dict.fromkeys(many, 0)])


def test_keys_that_are_equal_do_not_collide() -> None:
    """What is no data comes as its repr, which many things may share."""
    for same in ("<Odd>", 1, float("nan")):
        assert isinstance(parse(json.dumps({"t": "final", "value": {"~set": [same] * 5000}}).encode()), Final)


def test_the_same_keys_in_many_objects_do_not_collide() -> None:
    value = [{"~dict": [[n, 0] for n in range(20)]}] * 100
    assert isinstance(parse(json.dumps({"t": "final", "value": value}).encode()), Final)


@pytest.mark.slow
@pytest.mark.parametrize("item", [b"[]", b"{}", b'{"a":1}', b"[[]]"])
def test_more_containers_than_any_value_has_are_refused_before_they_are_made(item: bytes) -> None:
    body = b'{"t":"final","value":[' + b",".join([item] * (MAX_CONTAINERS + 1)) + b"]}"
    tracemalloc.start()
    with pytest.raises(FrameError, match="lists and objects"):
        parse(body[:MAX_FRAME])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * MAX_FRAME


@pytest.mark.parametrize("text", ["[" * 2_000_000, '{"a":[1]}' * 300_000, "\\[" * 1_000_000, '\\"[' * 800_000])
def test_brackets_in_a_text_are_none(text: str) -> None:
    assert parse(json.dumps({"t": "final", "value": text}).encode()) == Final(text)


@pytest.mark.parametrize("end", [b"", b'"', b"\\", b'\\"'])
def test_texts_without_an_end_are_refused_in_time(end: bytes) -> None:
    started = time.process_time()
    with pytest.raises(FrameError):
        parse(b'{"t":"' + b"[" * (MAX_CONTAINERS + 1) + b'\\"' * 3_000_000 + end)
    assert time.process_time() - started < 5


def test_a_call_knows_what_it_came_in() -> None:
    body = b'{"t":"call","n":1,"name":"f","args":[],"kw":{}}'
    got = parse(body)
    assert isinstance(got, Call)
    assert got.size == len(body)
