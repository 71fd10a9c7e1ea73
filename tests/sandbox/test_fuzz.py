"""A hostile inside: whatever it sends, the host goes on, in bounded time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import resource
import socket
import struct
import time
from concurrent.futures import Future
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.sandbox import Execution, SandboxLimits
from wherry.sandbox.frames import MAX_FRAME, Call, Decoder, Done, Final, FrameError, Ready, encode
from wherry.sandbox.links import Exit, Refusals
from wherry.sandbox.outcome import MOST_ERROR
from wherry.sandbox.session import WorkerSession
from wherry.sandbox.values import as_array_or_table, describe
from wherry.tools import as_json, as_text

FRAMES = 100_000
TAGS = [
    *("~dict", "~tuple", "~set", "~frozenset", "~bytes", "~int", "~decimal", "~complex", "~uuid"),
    *("~datetime", "~date", "~time", "~timedelta", "~array", "~table", "~x"),
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**4000), 10**4000)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["<f8", "|O", "<M8[ns]", "object", "str", "AAAAAAAAAAA=", "1e999999", "NaN", "2026-01-01", "\ud800"]
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.tuples(st.sampled_from(TAGS), inner).map(lambda pair: {pair[0]: pair[1]})
        | st.tuples(st.sampled_from(["<f8", "object", "|b1"]), st.lists(st.integers(-1, 3), max_size=3), inner).map(
            lambda parts: {"~array": list(parts)}
        )
    ),
    max_leaves=12,
)
KEYS = ["n", "id", "name", "args", "kw", "value", "kind", "error", "stdout", "stderr", "cpu", "has_value", "clock"]


def body_of(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"t": kind, **fields}


def body_with(value: Any, final: bool) -> dict[str, Any]:
    return {"t": "final", "value": value} if final else {"t": "call", "n": 1, "name": "f", "args": [value], "kw": {}}


KINDS = st.sampled_from(["ready", "call", "final", "done", "run", ""])
FIELDS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
BODIES = st.builds(body_of, KINDS, FIELDS) | st.builds(body_with, VALUES, st.booleans())
FIELD = struct.Struct("!I")


def framed(body: bytes) -> bytes:
    return FIELD.pack(len(body)) + body


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of them changed, doubled or gone."""
    out = bytearray(data)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(3):
            case 0:
                out[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 1:
                del out[at : at + chance.randrange(1, 9)]
            case _:
                out[at : at + 1] = bytes([chance.randrange(256)])
    return bytes(out)


def survive(data: bytes) -> int:
    """Feed a stream, and do with every value what the host does; the number of frames in it."""
    decoder, count = Decoder(), 0
    with contextlib.suppress(FrameError):
        for start in range(0, len(data), 1 << 14):
            decoder.feed(data[start : start + (1 << 14)])
            while (frame := decoder.next()) is not None:
                count += 1
                assert isinstance(frame, Ready | Call | Final | Done)
                if isinstance(frame, Final | Done):
                    use(frame.value)
                elif isinstance(frame, Call):
                    use([frame.args, frame.kwargs])
    return count


def use(value: Any) -> None:
    """What later readers do with a value that came through."""
    text = as_text(value)
    assert len(text.encode()) < 4 * MAX_FRAME
    json.dumps(as_json(value))
    repr(value)
    held = as_array_or_table(value)
    if held is not None:
        assert len(str(describe(held))) <= 3000
        json.dumps(as_json(held.as_data()))


def stream(bodies: list[Any], seed: int) -> bytes:
    chance = random.Random(seed)
    parts = [framed(json.dumps(body).encode()) for body in bodies]
    return mutated(b"".join(parts), chance) if seed % 3 else b"".join(parts)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(BODIES, max_size=5), st.integers(0, 1 << 32))
def test_any_stream_is_survived(bodies: list[Any], seed: int) -> None:
    survive(stream(bodies, seed))


@pytest.mark.slow
@pytest.mark.bench
def test_a_hundred_thousand_frames_are_survived_without_growing() -> None:
    seen: list[Any] = []

    @settings(
        max_examples=600,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(BODIES)
    def gather(body: Any) -> None:
        seen.append(body)

    gather()
    chance = random.Random(0)
    count, before, started = 0, 0, time.monotonic()
    slowest = 0.0
    while count < FRAMES:
        bodies = [json.dumps(body).encode() for body in chance.choices(seen, k=100)]
        for body in bodies:
            begun = time.perf_counter()
            survive(framed(mutated(body, chance)) if count % 2 else mutated(framed(body), chance))
            slowest = max(slowest, time.perf_counter() - begun)
            count += 1
        if count == FRAMES // 4:
            gc.collect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{count:,} frames in {time.monotonic() - started:.0f} s, slowest {slowest * 1e3:.1f} ms, {grown:.1f} MiB more"
    )
    assert grown < 50
    assert slowest < 5


LARGE = [
    b'{"t":"final","value":"' + b"\\ud800" * 1_300_000 + b'"}',
    b'{"t":"final","value":[' + b"[]," * 2_600_000 + b"[]]}",
    b'{"t":"final","value":[' + b'{"~set":[]},' * 600_000 + b"1]}",
    b'{"t":"final","value":{"~bytes":"' + b"AAAA" * 2_000_000 + b'"}}',
    b'{"t":"final","value":{"~dict":[' + b",".join(b"[%d,0]" % (n * ((1 << 61) - 1)) for n in range(250_000)) + b"]}}",
    b'{"t":"final","value":{"~set":[' + b",".join(b"%d" % (n << 40) for n in range(400_000)) + b"]}}",
    b'{"t":"final","value":[' + b",".join(b"9" * 4000 for _ in range(2000)) + b"]}",
    b'{"t":"final","value":' + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000 + b"}",
    b'{"t":"final","value":' + b'{"~tuple":[' * 500_000 + b"]}" * 500_000 + b"}",
    b'{"t":"final","value":{"~array":["<f8",[1000000],"' + b"A" * 8 * (10**6 // 2) + b'"]}}',
    b'{"t":"done","id":1,"stdout":"' + b"\\u0000" * 1_300_000 + b'"}',
    b'{"' + b'a":1,"' * 1_000_000 + b'":1}',
]


@pytest.mark.slow
@pytest.mark.parametrize("body", LARGE, ids=range(len(LARGE)))
def test_a_frame_of_any_shape_is_read_in_seconds(body: bytes) -> None:
    assert len(body) <= MAX_FRAME
    started = time.process_time()
    decoder = Decoder()
    decoder.feed(framed(body))
    with contextlib.suppress(FrameError):
        decoder.next()
    assert time.process_time() - started < 15


def test_calls_may_not_be_large_for_ever() -> None:
    call = framed(b'{"t":"call","n":1,"name":"f","args":["' + b"v" * (6 << 20) + b'"],"kw":{}}')
    execution, peer = anyio.run(lambda: converse(call * 12, hang_up=False, wall=20))
    assert (execution.kind, execution.tool_calls) == ("protocol", 11)
    assert "MiB of tool calls" in execution.error
    assert peer.killed


def test_the_error_of_a_forged_end_is_cut() -> None:
    done = framed(b'{"t":"done","id":1,"kind":"exception","error":"' + b"e" * (6 << 20) + b'"}')
    execution, _ = anyio.run(lambda: converse(done, hang_up=False))
    assert execution.kind == "exception"
    assert len(execution.error) == MOST_ERROR


class Peer:
    """A process link whose inside is the test."""

    def __init__(self) -> None:
        self.sock, self.inside = socket.socketpair()
        self.sock.setblocking(False)
        self.inside.setblocking(False)
        self.refusals = Refusals()
        self.exit: Future[Exit] = Future()
        self.signals: list[int] = []
        self.killed = False

    @property
    def folder(self) -> int | None:
        return None

    def printed(self, cap: int) -> str:
        return ""

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.killed = True
        self.sock.close()
        if not self.exit.done():
            self.exit.set_result(Exit(-9))

    def release(self) -> None:
        self.kill()


async def never(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return "answer"


async def converse(data: bytes, *, hang_up: bool, wall: float = 0.2) -> tuple[Execution, Peer]:
    """What the host makes of a snippet whose process sends these bytes, reads all, and says no more."""
    peer = Peer()
    session = WorkerSession(peer, tier="test", limits=SandboxLimits(wall_seconds=wall), tools=["f"])
    loop = asyncio.get_running_loop()

    async def play() -> None:
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                await loop.sock_sendall(peer.inside, rest[: 1 << 16])
                rest = rest[1 << 16 :]
            if hang_up:
                peer.inside.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(peer.inside, 1 << 16):
                pass

    playing = asyncio.create_task(play())
    with anyio.fail_after(60):
        execution = await session.run("code", call_tool=never)
    await session.close()
    playing.cancel()
    peer.inside.close()
    return execution, peer


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(BODIES, max_size=5), st.integers(0, 1 << 32), st.booleans())
def test_any_conversation_ends_in_an_execution(bodies: list[Any], seed: int, done: bool) -> None:
    if done:
        bodies = [*bodies, {"t": "done", "id": 1}]
    execution, _ = anyio.run(lambda: converse(stream(bodies, seed), hang_up=True))
    assert execution.kind in (None, "exception", "timeout", "memory", "killed", "protocol")
    assert execution.ok == (execution.kind is None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "timeout"),
        (b"\0", "timeout"),
        (FIELD.pack(1000) + b"{", "timeout"),
        (FIELD.pack(MAX_FRAME + 1), "protocol"),
        (framed(b"{"), "protocol"),
        (framed(b'{"t":"done","id":2}'), "protocol"),
        (framed(b'{"t":"call","n":1,"name":"f","args":[],"kw":{}}') * 2000, "protocol"),
        (framed(b'{"t":"call","n":1,"name":"f","args":[],"kw":{}}') * 151, "protocol"),
        (framed(b'{"t":"ready"}'), "protocol"),
        (framed(b'{"t":"call","n":1,"name":"g","args":[],"kw":{}}') + framed(b'{"t":"done","id":1}'), None),
    ],
)
def test_silence_and_nonsense_end_the_session(data: bytes, kind: str | None) -> None:
    started = time.monotonic()
    execution, peer = anyio.run(lambda: converse(data, hang_up=False))
    assert execution.kind == kind
    assert peer.killed
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_flood_is_not_taken_in() -> None:
    """An inside that sends without end is read no further than a frame and one read more."""

    async def main() -> None:
        peer = Peer()
        session = WorkerSession(peer, tier="test", limits=SandboxLimits(wall_seconds=1), tools=["f"])
        running = asyncio.create_task(session.run("code", call_tool=held))
        sent, call = 0, framed(b'{"t":"call","n":1,"name":"f","args":[],"kw":{}}')
        with contextlib.suppress(OSError, TimeoutError):
            while sent < 64 << 20:
                async with asyncio.timeout(1):
                    await asyncio.get_running_loop().sock_sendall(peer.inside, call * 1000)
                sent += len(call) * 1000
        assert sent < 32 << 20
        go.set()
        assert (await running).kind in ("protocol", "timeout")  # nobody takes the answers
        peer.inside.close()

    go = asyncio.Event()

    async def held(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        await go.wait()
        return None

    anyio.run(main)


def test_a_frame_to_the_inside_is_bounded() -> None:
    with pytest.raises(FrameError, match="do not fit"):
        encode({"t": "set", "value": "v" * MAX_FRAME})
