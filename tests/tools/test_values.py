"""`as_json` and `as_text` take anything."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import itertools
import json
import math
import pathlib
import uuid
from collections import UserDict, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from wherry.tools import as_json, as_text


@dataclasses.dataclass
class Box:
    inside: object


class Model(BaseModel):
    when: datetime.datetime
    tags: set[str] = {"b", "a"}


class Color(enum.Enum):
    RED = "red"


class Scalar:
    """As numpy shapes its scalars."""

    dtype = "float64"

    def item(self) -> float:
        return 1.5


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError


class HostileMapping(UserDict[str, int]):
    def items(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({"a": [1, 2.5, True, None, "x"]}, {"a": [1, 2.5, True, None, "x"]}),
        (math.nan, "NaN"),
        ([math.inf, -math.inf], ["Infinity", "-Infinity"]),
        (b"\xff\x00", {"base64": "/wA="}),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.date(2020, 2, 3), "2020-02-03"),
        (datetime.timedelta(hours=1), "PT1H"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (Color.RED, "red"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (range(3), [0, 1, 2]),
        (deque([1]), [1]),
        ({1: "a", "1": "b", None: "c", (1, 2): "d"}, {"1": "a", "1 <str>": "b", "None": "c", "(1, 2)": "d"}),
        (Box(Box(b"")), {"inside": {"inside": {"base64": ""}}}),
        (Model(when=datetime.datetime(2020, 1, 1)), {"when": "2020-01-01T00:00:00", "tags": ["a", "b"]}),
        (Scalar(), 1.5),
        ("a\ud800b", "a\ufffdb"),
        (ValueError("x"), "ValueError('x')"),
        (int, "<class 'int'>"),
    ],
)
def test_what_becomes_of_what(value: object, expected: object) -> None:
    assert as_json(value) == expected


def test_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert as_json([numpy.float64(1), numpy.int32(2), numpy.bool_(True), numpy.array([[1, 2]])]) == [
        1,
        2,
        True,
        [[1, 2]],
    ]


def test_large_integers_keep_every_digit_until_they_are_absurd() -> None:
    assert as_json(10**3_000) == 10**3_000
    text = as_json(10**10_000 + 7)
    assert isinstance(text, str)
    assert text == "1" + "0" * 9_999 + "7"
    assert as_json(1 << 10_000_000) == "<integer of about 3010300 digits>"
    assert as_json(-(10**5_000)) == "-1" + "0" * 5_000


def test_cycles_depth_and_shared_references_end() -> None:
    cycle: list[Any] = []
    cycle += [cycle, {"again": cycle}]
    assert as_json(cycle) == ["<list that holds itself>", {"again": "<list that holds itself>"}]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert as_text(deep).count("[") == 100
    assert "deeper than 100 levels" in as_text(deep)
    assert as_json([shared := [1], shared]) == [[1], [1]], "the same list twice is no cycle"


def test_shared_references_cannot_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.tools.values.MAX_NODES", 10_000)
    laugh: list[Any] = []
    for _ in range(60):
        laugh = [laugh, laugh]
    text = as_text(laugh)
    assert len(text) < 1_000_000
    assert "<more items left out>" in text


def test_endless_generators_are_not_walked() -> None:
    assert str(as_json(itertools.count())) == "count(0)"
    assert "generator" in str(as_json(x for x in itertools.count()))


def test_hostile_objects_become_something() -> None:
    # Not as parameters: pytest looks at those in ways that these do not bear.
    for value in (Hostile(), [Hostile()], {"a": Hostile()}, HostileMapping(a=1), Box(Hostile())):
        json.dumps(as_json(value))
        as_text(value).encode()


def test_text() -> None:
    assert as_text("as it is\n") == "as it is\n"
    assert as_text(None) == "None"
    assert as_text("é".encode()) == "é"
    assert as_text(b"\xff") == '{"base64": "/w=="}'
    assert as_text({"ä": 1.0}) == '{"ä": 1.0}'
    assert as_text(decimal.Decimal("2.50")) == "2.50"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.decimals(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(anything)
def test_whatever_comes_in_strict_json_comes_out(value: object) -> None:
    out = as_json(value)
    text = json.dumps(out, allow_nan=False, ensure_ascii=False)
    assert json.loads(text) == out
    text.encode()
    as_text(value).encode()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(plain)
def test_what_is_json_already_is_not_changed(value: object) -> None:
    assert as_json(value) == value
