"""Values through the wall, both ways: what comes out is what went in."""

from __future__ import annotations

import datetime
import enum
import io
import math
import os
import subprocess
import sys
import tracemalloc
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from uuid import UUID

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from wherry.agents.handing import as_lists
from wherry.errors import ConfigurationError, SandboxUnavailable, ToolError
from wherry.sandbox import Execution, Sandbox, SandboxLimits, Session, get_sandbox
from wherry.sandbox.frames import MAX_FRAME, Decoder, Final
from wherry.sandbox.frames import encode as frame
from wherry.sandbox.values import Array, Encoded, Table, ValueTooLargeError, describe, encode, restore
from wherry.tools import as_json

pytestmark = pytest.mark.anyio
Run = Callable[[str], Coroutine[Any, Any, Execution]]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**3000), 10**3000)
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc"]))
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False, min_value=-(10**50), max_value=10**50)
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
)
KEYS = SCALARS | st.tuples(SCALARS, SCALARS) | st.frozensets(SCALARS, max_size=2)
VALUES = st.recursive(
    SCALARS | st.frozensets(KEYS, max_size=4) | st.frozensets(KEYS, max_size=4).map(set),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["~dict", "~set", "~x", "t"]), inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=15,
)


def listed(value: Any) -> Any:
    """With lists for tuples, as values come out; in keys and members they stay."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [listed(item) for item in cast("list[Any]", value)]
    return value


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: `1 == 1.0 == True`."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        mine, theirs = [*cast("dict[Any, Any]", one).items()], [*cast("dict[Any, Any]", other).items()]
        return same(mine, theirs)
    if isinstance(one, list | tuple):
        pairs = zip(cast("list[Any]", one), cast("list[Any]", other), strict=False)
        return len(cast("list[Any]", one)) == len(cast("list[Any]", other)) and all(same(a, b) for a, b in pairs)
    return one == other


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_value_survives_being_written_and_read(value: Any) -> None:
    assert same(restore(encode(value, strict=True, tuples=True)), value)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_value_comes_out_of_a_frame_as_it_went_in(value: Any) -> None:
    decoder = Decoder()
    decoder.feed(frame({"t": "final", "value": encode(value, strict=True)}))
    got = decoder.next()
    assert isinstance(got, Final)
    assert same(got.value, listed(value))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(VALUES, max_size=4))
def test_any_value_goes_in_and_comes_back(values: list[Any]) -> None:
    """As a variable, as a tool's result, as an argument, as the final answer."""

    async def main() -> None:
        try:
            jail = get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=2))
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        session = await jail.open(tools=["give", "take"], variables={"given": values})
        taken: list[Any] = []

        async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
            taken.extend(args)
            return values

        code = "got = give()\nassert repr(got) == repr(given)\ntake(got)\nfinal_answer(got)"
        ended = await session.run(code, call_tool=answer)
        await session.close()
        assert ended.final, ended.error
        assert same(taken, [listed(values)])
        assert same(ended.value, listed(values))

    anyio.run(main)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    at: datetime.date


class Person(BaseModel):
    name: str
    tags: set[str]


class Pair(NamedTuple):
    a: int
    b: int


KINDS: list[tuple[Any, Any]] = [
    (Point(1, datetime.date(2026, 1, 2)), {"x": 1, "at": datetime.date(2026, 1, 2)}),
    (Person(name="Ada", tags={"a"}), {"name": "Ada", "tags": {"a"}}),
    (Pair(1, 2), (1, 2)),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (range(3), [0, 1, 2]),
    (deque([1]), [1]),
    (Counter("aab"), {"a": 2, "b": 1}),
    (OrderedDict({"a": 1}), {"a": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    (bytearray(b"a"), b"a"),
    (memoryview(b"a"), b"a"),
    (Path("a/b"), "a/b"),
    (float("inf"), math.inf),
    (-0.0, -0.0),
]


@pytest.mark.parametrize(("value", "becomes"), KINDS)
def test_other_kinds_become_the_nearest(value: Any, becomes: Any) -> None:
    made = restore(encode(value, strict=True, tuples=True))
    assert same(made, becomes)
    assert str(made) == str(becomes)


async def test_integers_of_any_size_go_in_and_too_large_ones_are_told(session: Session) -> None:
    async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return 10**20_000 + 7

    got = await session.run("n = echo()\n[n % 10, n == 10**20_000 + 7, 2**4000]", call_tool=answer)
    assert got.value == [7, True, 2**4000]
    assert (await session.run("n", call_tool=answer)).value == "<an integer of 66,439 bits>"
    assert "too large to be passed" in (await session.run("echo(n)", call_tool=answer)).error


async def test_nan_and_surrogates_go_both_ways(run: Run) -> None:
    got = (await run("echo(float('nan'), '\\ud800', '\\x00')")).value
    assert math.isnan(got[1][0])
    assert got[1][1:] == ["\ud800", "\x00"]


async def test_depth_is_bounded_and_cycles_are_seen(run: Run) -> None:
    await run("deep = 1\nfor _ in range(99): deep = [deep]\ndeeper = 1\nfor _ in range(5000): deeper = [deeper]")
    assert (await run("deep")).ok
    assert "nested deeper than 100" in (await run("echo(deeper)")).error
    assert (await run("deeper")).ok
    assert (await run("ring = []\nring.append(ring)\nring")).value == ["[[...]]"]


async def test_what_is_no_data_is_a_bounded_repr_made_inside(run: Run) -> None:
    odd = await run("class Odd:\n    def __repr__(self): return 'odd' * 5000\n[Odd(), print, (n for n in [])]")
    assert odd.value[0].startswith("oddodd")
    assert len(odd.value[0]) < 2100
    assert odd.value[1] == "<built-in function print>"
    assert odd.value[2].startswith("<generator object")
    assert (await run("class Bad:\n    def __repr__(self): raise ValueError\nBad()")).value == (
        "<Bad: its repr raised ValueError>"
    )


async def test_a_generator_is_data_where_it_is_given_away_and_left_alone_where_it_is_shown(run: Run) -> None:
    assert (await run("g = (n * n for n in range(3))\necho(g)")).value[1] == [[0, 1, 4]]
    assert (await run("g = (n for n in range(3))\ng")).value.startswith("<generator object")
    assert (await run("list(g)")).value == [0, 1, 2]
    assert "more than 10,000 items" in (await run("import itertools\necho(itertools.count())")).error
    ended = await run("final_answer(map(str, range(3)))")
    assert ended.value == ["0", "1", "2"]
    assert "<_io.TextIOWrapper" in (await run("open('f', 'w')\nf = open('f')\n[f]")).value[0]


async def test_large_values_are_refused_with_a_way_out(session: Session, run: Run) -> None:
    for text in ("'v' * (9 << 20)", "'é' * (4 << 20)", "'\\x00' * (3 << 20)", "[1.5] * 1_000_000", "bytes(6 << 20)"):
        refused = await run(f"echo({text})")
        assert "the arguments of echo cannot be passed: the value is larger than" in refused.error, text
        refused = await run(f"final_answer({text})")
        assert "write it to a file: files are kept" in refused.error, text
        assert (await run(text)).ok, text
    assert session.alive


async def test_values_just_under_the_limit_cross(run: Run) -> None:
    assert (await run("len(echo('v' * (6 << 20))[1][0])")).value == 6 << 20
    assert (await run("len(echo('é' * (2 << 20))[1][0])")).value == 2 << 20
    assert (await run("len(echo(list(range(400_000)))[1][0])")).value == 400_000


async def test_variables_that_cannot_be_are_refused(jail: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match=r"variable `big`.*larger than 7 MiB"):
        await jail.open(tools=[], variables={"big": "v" * MAX_FRAME})
    with pytest.raises(ConfigurationError, match="variable `odd`: a object is no data"):
        await jail.open(tools=[], variables={"odd": object()})


@pytest.mark.slow
def test_a_graph_that_shares_its_parts_ends_in_bounded_time() -> None:
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(ValueTooLargeError):
        encode(shared)


def test_what_is_encoded_already_is_passed_on() -> None:
    assert restore(encode([Encoded({"~set": [1]})])) == [{1}]


def test_an_objects_own_methods_are_not_believed() -> None:
    class Sly(str):
        def __str__(self) -> str:
            return "other"

    class Endless(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("no items")

    assert restore(encode(Sly("own"))) == "own"
    with pytest.raises(RuntimeError):
        encode(Endless(a=1))


numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize(
    "array",
    [
        *(
            numpy.arange(6, dtype=kind).reshape(2, 3)
            for kind in ("i1", "u2", "i4", ">i8", "f2", "f4", ">f8", "c8", "c16")
        ),
        numpy.array([True, False]),
        numpy.array(3.5),
        numpy.zeros((2, 0, 3)),
        numpy.array([], dtype="i4"),
        numpy.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        numpy.array(["2026-01-02", "NaT"], dtype="M8[ns]"),
        numpy.array([1, 2], dtype="m8[s]"),
        numpy.array(["a", "bcd"]),
        numpy.array([1, "a", None], dtype=object),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_survives(array: Any) -> None:
    held = restore(encode(array, strict=True))
    assert isinstance(held, Array)
    assert held.shape == array.shape
    if array.dtype.kind not in "mM":
        assert held.tolist() == array.tolist()
    if array.dtype.kind in "biufcmM":
        loaded = numpy.load(io.BytesIO(held.npy()), allow_pickle=False)
        assert loaded.shape == array.shape
        assert loaded.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert str(array.shape) in held.describe()
    assert str(describe(array)).split("first")[0].replace(">", "<").startswith("array of shape")


def test_numpys_numbers_become_pythons() -> None:
    values = [numpy.float64(1.5), numpy.int8(3), numpy.bool_(True), numpy.str_("a"), numpy.datetime64("2026-01-02")]
    assert same(restore(encode(values, strict=True)), [1.5, 3, True, "a", datetime.date(2026, 1, 2)])
    assert restore(encode(numpy.datetime64("2026-01-02T00:00:00.000000001"))) == "2026-01-02T00:00:00.000000001"
    masked = numpy.ma.masked_array([1, 2], mask=[False, True])
    assert restore(encode(masked)) == [1, None]


def test_a_record_of_an_array_is_checked() -> None:
    for bad in (("<f8", (2,), b"12345678"), ("<f8", (-1,), b""), ("<V8", (1,), b"12345678"), ("object", (2,), [1])):
        with pytest.raises(ValueError, match="array"):
            Array(*bad)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="length"):
        Table(["a"], [Array("object", (1,), [1]), Array("object", (2,), [1, 2])], None)


BYTES = 50_000


@pytest.mark.parametrize(
    "value",
    [
        Array("|u1", (BYTES, 1, 1, 1), bytes(BYTES)),
        Array("|u1", (1_000_000, 0), b""),
        [Array("|u1", (BYTES,), bytes(BYTES))] * 3,
        {"a": [Table(["n"], [Array("|u1", (BYTES,), bytes(BYTES))], Array("|u1", (BYTES,), bytes(BYTES)))] * 2},
        Table([], [], Array("|u1", (3 * BYTES,), bytes(3 * BYTES))),
    ],
    ids=["many dimensions", "no elements", "together", "tables", "index alone"],
)
def test_what_would_become_too_many_lists_is_refused_with_a_way_out(value: Any) -> None:
    tracemalloc.start()
    with pytest.raises(ToolError, match="pass a smaller piece, or write it to a file"):
        as_lists([value, value])
    assert len(str(as_json(value))) < 100_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 32 << 20


def test_arrays_that_fit_become_lists() -> None:
    column = Array("|u1", (BYTES,), bytes(BYTES))
    assert as_lists([column, {"b": column}]) == [[0] * BYTES, {"b": [0] * BYTES}]
    assert as_lists(Table(["n"], [column], None)) == [{"n": 0}] * BYTES


def test_an_array_of_more_dimensions_goes_as_lists() -> None:
    with pytest.raises(ValueError, match="array of shape"):
        Array("|u1", (1,) * 9, b"1")
    deep = numpy.ones((1,) * 9, dtype="i1")
    assert restore(encode(deep, strict=True)) == deep.tolist()


def test_a_mixed_set_has_one_order_in_every_process() -> None:
    code = "from wherry.tools import as_json\nprint(as_json({1, 'a', 'b', None, 2.5, (1, 'c'), 'd', b'e'}))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


async def test_an_array_becomes_lists_where_numpy_is_not(session: Session) -> None:
    async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return numpy.arange(4).reshape(2, 2)

    assert (await session.run("echo()", call_tool=answer)).value == [[0, 1], [2, 3]]


@pytest.fixture(scope="module")
def packages() -> Iterator[Sandbox]:
    """A sandbox with numpy and pandas; built once on a machine, which takes an index to install from."""
    try:
        yield get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=10), packages=("numpy", "pandas"))
    except SandboxUnavailable as error:
        pytest.skip(error.message)


@pytest.mark.slow
async def test_arrays_and_frames_cross_as_real_ones(packages: Sandbox) -> None:
    async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if name == "table":
            names = ["n", "word", 3]
            columns = [Array("<i8", (2,), bytes(16)), Array("object", (2,), ["a", None]), Array("<f8", (2,), bytes(16))]
            return Table(names, columns, Array("object", (2,), ["x", "y"]))
        if name == "array":
            return numpy.linspace(0, 1, 5)
        return args

    session = await packages.open(tools=["array", "table", "echo"], variables={"given": numpy.eye(2)})
    code = """
import numpy as np, pandas as pd
a, t = array(), table()
assert type(a) is np.ndarray and a.dtype == float and a.tolist() == [0, .25, .5, .75, 1] and a.flags.writeable
assert type(given) is np.ndarray and given.trace() == 2
assert type(t) is pd.DataFrame and list(t.columns) == ['n', 'word', 3] and list(t.index) == ['x', 'y']
assert t['n'].dtype == 'int64' and t.loc['x', 'word'] == 'a'
frame = pd.DataFrame({'when': pd.to_datetime(['2026-01-02', None]), 'word': ['a', None], 'n': [1.5, float('nan')]})
echo(frame, pd.Series([1, 2], name='s'), np.arange(3), np.float32(1.5), pd.Timestamp('2026-01-02'), pd.NaT, pd.NA)
"""
    done = await session.run(code, call_tool=answer)
    assert done.ok, done.error
    table, series, array, number, moment, *nothing = done.value
    assert table.csv() == "when,word,n\n2026-01-02T00:00:00,a,1.5\n,,nan\n"
    assert series.rows() == [{"s": 1}, {"s": 2}]
    assert array.tolist() == [0, 1, 2]
    assert (number, moment, nothing) == (1.5, datetime.datetime(2026, 1, 2), [None, None])
    assert (await session.run("frame", call_tool=answer)).value.describe().startswith("data frame of 2 rows and 3 col")
    closed = await session.run("frame['wrod']", call_tool=answer)
    assert "Did you mean 'word'" in closed.error
    await session.close()


HOST_WITH_PANDAS = """
import sys
sys.path.append(sys.argv[1])
import anyio, pandas as pd
from wherry.sandbox import get_sandbox
from wherry.sandbox.values import describe, encode, restore

frame = pd.DataFrame({"n": [1, 2], "word": ["a", None], "when": pd.to_datetime(["2026-01-02", None])}, index=[5, 7])
print(describe(frame))
print(describe(pd.DataFrame({"x": range(100_000)})).splitlines()[0])
print(restore(encode(frame)).csv())

async def main():
    async def answer(name, args, kwargs):
        return frame
    session = await get_sandbox("namespaces", packages=("numpy", "pandas")).open(tools=["get"], variables={"f": frame})
    code = "g = get()\\nassert g.equals(f), g\\n[g.loc[7, 'n'], g['word'].isna().sum(), str(g['when'].dtype)[:10]]"
    done = await session.run(code, call_tool=answer)
    print(done.error or done.value)
    await session.close()

anyio.run(main)
"""


@pytest.mark.slow
def test_a_hosts_own_data_frames_go_in(packages: Sandbox, tmp_path: Path) -> None:
    import subprocess

    from wherry.sandbox import package_set

    found = package_set(("numpy", "pandas"))
    assert found is not None
    (tmp_path / "host.py").write_text(HOST_WITH_PANDAS)
    told = subprocess.run(
        [sys.executable, str(tmp_path / "host.py"), str(found.folder)], capture_output=True, text=True, check=False
    )
    csv = ",n,word,when\n5,1,a,2026-01-02T00:00:00\n7,2,,\n"
    assert told.stdout.splitlines() == [
        "data frame of 2 rows and 3 columns: n (int64), word (object), when (datetime64[us]); first rows:",
        *csv.splitlines(),
        "",
        "data frame of 100,000 rows and 1 columns: x (int64); first rows:",
        *csv.splitlines(),
        "",
        "[2, 1, 'datetime64']",
    ], told.stderr


@pytest.mark.slow
async def test_numpys_generators_are_seeded(packages: Sandbox) -> None:
    code = "import numpy as np\n[np.random.rand(), np.random.default_rng().random()]"

    async def never(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return None

    one, two, three = [await packages.open(tools=[]) for _ in range(3)]
    first = await one.run(code, call_tool=never)
    assert first.ok, first.error
    assert (await two.run(code, call_tool=never, conditions=first.conditions)).value == first.value
    assert (await three.run(code, call_tool=never)).value != first.value
    for session in (one, two, three):
        await session.close()


def test_the_codec_needs_the_standard_library_only() -> None:
    """It runs in the jail, where nothing else is."""
    import subprocess

    folder = Path(sys.modules["wherry.sandbox.inside"].__file__ or "").parent
    code = f"import sys; sys.path.insert(0, {str(folder.parent)!r}); from inside import decoding; print('fine')"
    made = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
    assert made.stdout == b"fine\n"


def test_kinds_that_are_written_are_read_as_themselves() -> None:
    value = {"d": Decimal("1.10"), "u": UUID(int=1), "t": datetime.timedelta(-1, 2, 3), "c": 1 + 2j}
    assert same(restore(encode(value, strict=True)), value)
