"""Agents on a real llama.cpp server that is killed, stopped, restarted smaller, squeezed, asked by five at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from wherry import FunctionModel, Limits, OpenAIModel, ToolCallingAgent, open_store
from wherry.errors import ModelError, WherryError
from wherry.journal import Event, EventType
from wherry.messages import ToolCall
from wherry.models import Model, ModelReply, ModelRequest
from wherry.models.local import LocalModel, server
from wherry.models.local.server import LlamaServer, ServerSettings, shared
from wherry.policy.admission import backend_of

pytestmark = pytest.mark.local_model

SECONDS = 150.0
SMALLER = 1024


class Watched:
    """A run, its events, and what is done when the first of a kind comes."""

    def __init__(
        self, model: Model, task: str, *, on: EventType, act: Callable[[], object], deltas: bool = False, **more: Any
    ) -> None:
        self.events: list[Event] = []
        self.error: WherryError | None = None
        self._on: EventType | None = on
        self._act = act
        self._options: dict[str, Any] = {"deltas": deltas, "max_steps": 1, "limits": Limits(seconds=SECONDS)}
        agent = ToolCallingAgent(model=model, store=open_store("memory://"), **more)
        started = time.monotonic()
        anyio.run(self._run, agent, task)
        self.seconds = time.monotonic() - started

    async def _run(self, agent: ToolCallingAgent, task: str) -> None:
        try:
            async for event in agent.astream(task, **self._options):
                self.events.append(event)
                if event.type is self._on:
                    self._on = None
                    self._act()
        except WherryError as error:
            self.error = error

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [dict(event.payload) for event in self.events if event.type is EventType.MODEL_FAILED]

    @property
    def status(self) -> str:
        return str(self.events[-1].payload["status"])


def small(file: Path, *, context: int = 2048, slots: int = 1) -> LocalModel:
    return LocalModel(file, context=context, slots=slots, threads=2, max_output=24, keep_prefixes=False)


def test_a_server_that_is_killed_in_a_request_is_started_again(smollm2: Path) -> None:
    model = small(smollm2)
    anyio.run(model.prepare)
    first = model.server.pid
    assert first is not None

    def kill() -> None:
        os.kill(first, signal.SIGSTOP)  # so that the request is surely under way
        threading.Timer(0.5, os.kill, (first, signal.SIGKILL)).start()

    outcome = Watched(model, "Say a number.", on=EventType.MODEL_REQUESTED, act=kill)
    assert [failure["kind"] for failure in outcome.failures] == ["ConnectionLost"], outcome.failures
    assert outcome.error is None, outcome.error
    assert model.server.pid not in (None, first)
    assert outcome.seconds < SECONDS
    anyio.run(model.aclose)


class Proxy:
    """One address for whichever server is behind it."""

    def __init__(self) -> None:
        self.port = 0
        self.target: tuple[str, int] | None = None
        self._up = threading.Event()
        self._stop: Callable[[], object] = self._up.set
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as listening:
            self.port = listening.sockets[0].getsockname()[1]
            self._up.set()
            await stopped.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self.target is not None:
                behind = await asyncio.open_connection(*self.target)
                await asyncio.wait(
                    [asyncio.ensure_future(_copy(reader, behind[1])), asyncio.ensure_future(_copy(behind[0], writer))],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                behind[1].transport.abort()
        writer.transport.abort()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._up.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        self._thread.join(10)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as running:
        yield running


def start(file: Path, context: int, monkeypatch: pytest.MonkeyPatch) -> LlamaServer:
    def key(size: int) -> str:
        return "one-key-for-all-of-them"

    monkeypatch.setattr(server.secrets, "token_urlsafe", key)
    running = shared(ServerSettings(file, context=context, slots=1, threads=2))
    running.start().result(60)
    return running


def address(running: LlamaServer) -> tuple[str, int]:
    assert running.endpoint is not None
    host, _, port = running.endpoint.url.removeprefix("http://").partition(":")
    return host, int(port)


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_stream_and_comes_back_smaller(
    smollm2: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = start(smollm2, 2048, monkeypatch)
    servers = [large]
    proxy.target = address(large)
    url = f"http://127.0.0.1:{proxy.port}/v1"
    model = OpenAIModel(
        "",
        base_url=url,
        api_key="one-key-for-all-of-them",
        max_output=48,
        settings={"ignore_eos": True},
        counter=lambda text: len(text) // 4,
    )

    def restart() -> None:
        assert large.pid is not None
        os.kill(large.pid, signal.SIGKILL)
        proxy.target = None

        def again() -> None:
            servers.append(start(smollm2, SMALLER, monkeypatch))
            proxy.target = address(servers[-1])

        threading.Thread(target=again).start()

    task = "Repeat this list. " + ", ".join(str(number) for number in range(300))
    outcome = Watched(model, task, on=EventType.MODEL_DELTA, act=restart, deltas=True)
    try:
        kinds = [failure["kind"] for failure in outcome.failures]
        assert kinds == ["ConnectionLost", "ContextOverflow"], outcome.failures
        assert outcome.failures[1]["limit"] == SMALLER
        assert outcome.failures[1]["act"] == "shrink"
        assert outcome.error is None, outcome.error
        assert backend_of(model, model.profile).limit == SMALLER
    finally:
        for running in servers:
            running.close()


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_in_time(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start(smollm2, 1024, monkeypatch)
    pid = running.pid
    assert running.endpoint is not None
    assert pid is not None
    model = OpenAIModel(
        "m",
        base_url=f"{running.endpoint.url}/v1",
        api_key="one-key-for-all-of-them",
        window=4096,
        max_output=200,
        settings={"ignore_eos": True},
        first_token_timeout=40,
        stall_timeout=2,
    )
    monkeypatch.setattr(server, "UNHEALTHY_LOOKS", 10**6)
    resume = threading.Timer(4, os.kill, (pid, signal.SIGCONT))

    def stop() -> None:
        os.kill(pid, signal.SIGSTOP)
        resume.start()

    outcome = Watched(model, "Write a long story about a mill.", on=EventType.MODEL_DELTA, act=stop, deltas=True)
    assert outcome.failures[0]["kind"] == "Timeout"
    assert outcome.error is None, outcome.error
    running.close()


@pytest.mark.slow
def test_five_specialists_at_once_on_one_slot(smollm2: Path) -> None:
    model = small(smollm2, context=2048)
    anyio.run(model.prepare)
    assert model.server.pid is not None
    before = psutil.Process(model.server.pid).memory_info().rss

    def manage(request: ModelRequest) -> ModelReply:
        if any(message.role == "tool" for message in request.messages):
            return ModelReply(tool_calls=[ToolCall("9", "final_answer", {"answer": "all"})])
        return ModelReply(tool_calls=[ToolCall(f"c{n}", f"worker_{n}", {"task": f"Say {n}."}) for n in range(5)])

    workers = [ToolCallingAgent(model=model, name=f"worker_{n}", description="Works.", max_steps=1) for n in range(5)]
    store = open_store("memory://")
    manager = ToolCallingAgent(model=FunctionModel(manage), managed_agents=workers, store=store, parallel_tools=5)
    most = 0
    gate = backend_of(model, model.profile).gate

    async def main() -> list[Event]:
        nonlocal most
        events: list[Event] = []
        async for event in manager.astream("go"):
            events.append(event)
            most = max(most, gate.requests)
        return events

    events = anyio.run(main)
    assert events[-1].payload["status"] == "completed"
    assert not [event for event in events if event.type is EventType.MODEL_FAILED]
    assert most == 1
    assert sum(event.type is EventType.AGENT_RETURNED for event in events) == 5
    after = psutil.Process(model.server.pid).memory_info().rss
    assert after - before < 150_000_000, "the prompts' cache is bounded"
    anyio.run(model.aclose)


@pytest.mark.slow
def test_a_server_squeezed_by_its_control_group_is_told_as_that(smollm2: Path) -> None:
    one = Path("/sys/fs/cgroup/memory")  # the controllers apart, or all in one tree
    group = (one if one.is_dir() else one.parent) / f"wherry-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        limit = group / ("memory.limit_in_bytes" if one.is_dir() else "memory.max")
        if not limit.exists():
            pytest.skip("the memory controller is not there")
        model = small(smollm2, context=2048)
        anyio.run(model.prepare)

        def squeeze() -> None:
            (group / "cgroup.procs").write_text(str(model.server.pid))
            with contextlib.suppress(OSError):  # too much is in use to be taken away: it is killed, or crawls
                limit.write_text("60000000")

        outcome = Watched(model, "Say a number.", on=EventType.MODEL_REQUESTED, act=squeeze)
        kinds = {failure["kind"] for failure in outcome.failures}
        assert kinds <= {"ConnectionLost", "OutOfMemory", "Timeout"}
        assert outcome.error is None or (isinstance(outcome.error, ModelError) and outcome.error.kind in kinds)
        assert outcome.seconds < SECONDS + 10
        anyio.run(model.aclose)
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
