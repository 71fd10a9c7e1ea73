"""Layers around models: kept answers, rates, other models, several keys."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from playback_server import Answer, PlaybackServer, completion, delta, events

from wherry import (
    Cached,
    Fallback,
    FunctionModel,
    Limits,
    RateLimited,
    RunStatus,
    ScriptedModel,
    ToolCallingAgent,
    open_store,
    tool,
)
from wherry.errors import ConfigurationError, ContextBudgetError, ModelError, ToolError
from wherry.messages import Message, ToolCall, Usage
from wherry.models import KeyRing, Model, ModelDelta, ModelReply, ModelRequest, OpenAIModel
from wherry.models.call import Call, target
from wherry.redaction import redact
from wherry.store import Store
from wherry.tools import ToolContext, use_context

T = TypeVar("T")
QUESTION = ModelRequest([Message("user", "hello")])
FIRST, SECOND, THIRD = (f"sk-test-{n * 8}-{n * 4}" for n in ("aaa1", "bbb2", "ccc3"))


def run(fn: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await fn()

    return anyio.run(main)


def ask(model: Model, request: ModelRequest = QUESTION) -> ModelReply:
    return run(lambda: model.complete(request))


def pieces(model: Model, request: ModelRequest = QUESTION) -> list[ModelDelta]:
    async def collect() -> list[ModelDelta]:
        return [piece async for piece in model.stream(request)]

    return run(collect)


def fails(kind: str) -> ModelError:
    return ModelError(f"it was {kind}", kind=kind)


def done(answer: object = "done") -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("1", "final_answer", {"answer": answer})])


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


# ---- Cached


def test_the_same_question_is_asked_once(store: Store) -> None:
    used = Usage(requests=1, input_tokens=9, output_tokens=3)
    call = ToolCall("c", "add", {"a": 1})
    inner = ScriptedModel([ModelReply("hi", tool_calls=[call], usage=used, finish_reason="stop", model="v7")])
    model = Cached(inner, store=store)
    first, second = ask(model), ask(model)
    assert (first.cached, second.cached) == (False, True)
    assert (second.text, second.tool_calls, second.model) == ("hi", (call,), "v7")
    assert second.usage == Usage()
    assert len(inner.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        ModelRequest([Message("user", "hello!")]),
        ModelRequest([Message("user", "hello")], max_output=7),
        ModelRequest([Message("user", "hello")], settings={"seed": 1}),
        ModelRequest([Message("user", "hello")], response_format={"type": "object"}),
        ModelRequest([Message("user", "hello"), Message("assistant", "yes"), Message("user", "hello")]),
    ],
)
def test_another_question_is_another(store: Store, other: ModelRequest) -> None:
    inner = ScriptedModel(["one", "two"])
    model = Cached(inner, store=store)
    assert (ask(model).text, ask(model, other).text) == ("one", "two")


def test_another_model_or_other_settings_are_another(store: Store, server: PlaybackServer) -> None:
    server.play(completion("a"), completion("b"), completion("c"))
    for settings, name in (({}, "m"), ({"temperature": 0.5}, "m"), ({}, "n")):
        ask(Cached(OpenAIModel(name, base_url=server.url, settings=settings), store=store))
    assert len(server.bodies) == 3
    assert ask(Cached(OpenAIModel("m", base_url=server.url), store=store)).text == "a"
    assert len(server.bodies) == 3


def test_failures_are_not_kept_and_answers_end(store: Store) -> None:
    model = Cached(ScriptedModel([fails("ServerError"), "yes", "anew"]), 0.05, store=store)
    with pytest.raises(ModelError):
        ask(model)
    assert ask(model).text == "yes"
    assert ask(model).cached
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass
    assert ask(model).text == "anew"


def test_streams_are_kept_when_they_are_whole(store: Store, server: PlaybackServer) -> None:
    half = Answer(events(delta("a b"), done=False))
    server.play(half, events(delta("a "), delta("b"), delta(finish="stop")))
    model = Cached(OpenAIModel("m", base_url=server.url), store=store)
    with pytest.raises(ModelError):
        pieces(model)
    assert [p.text for p in pieces(model)] == ["a ", "b", ""]
    kept = pieces(model)
    assert (kept[0].text, kept[-1].reply is not None and kept[-1].reply.cached) == ("a b", True)
    assert ask(model).text == "a b"
    assert len(server.bodies) == 2


def test_an_agents_answers_are_kept_in_its_store_and_cost_nothing_again(store: Store) -> None:
    inner = ScriptedModel([ModelReply(tool_calls=done().tool_calls, usage=Usage(1, 100, 0, 10))])
    agent = ToolCallingAgent(model=Cached(inner), store=store)
    first, second = agent.run("go"), agent.run("go")
    assert first.output == second.output == "done"
    assert (first.usage.requests, first.usage.input_tokens) == (1, 100)
    assert (second.usage.requests, second.usage.input_tokens, second.usage.usd) == (0, 0, 0)
    assert second.warnings == ()


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Cached(ScriptedModel([]), ttl=0)


def test_a_tools_results_are_kept(store: Store) -> None:
    calls: list[int] = []

    @tool(cache=60)
    def double(n: int) -> int:
        """Doubles.

        Args:
            n: What.
        """
        calls.append(n)
        if n < 0:
            raise ValueError("no")
        return 2 * n

    async def main() -> list[Any]:
        with use_context(ToolContext("r", "a", None, store)):
            first = [await double.call({"n": 4}), await double.call({"n": 4}), await double.call({"n": 5})]
            for _ in range(2):
                with pytest.raises(ToolError):
                    await double.call({"n": -1})
            return first

    assert run(main) == [8, 8, 10]
    assert calls == [4, 5, -1, -1]
    run(lambda: double.call({"n": 4}))
    assert calls[-1] == 4, "outside of a run nothing is kept"
    with pytest.raises(ConfigurationError):
        tool(double.forward, cache=-1)


# ---- RateLimited


class Waits:
    """A store's clock cannot be moved: waiting is noted and cut short."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        raise TimeoutError("enough")


def test_requests_over_the_rate_wait(store: Store) -> None:
    waits = Waits()
    model = RateLimited(FunctionModel(lambda r: "ok", name="m"), rpm=3, store=store, sleep=waits)
    for _ in range(3):
        ask(model)
    with pytest.raises(TimeoutError):
        ask(model)
    assert waits.asked == [pytest.approx(20, abs=1)]
    other = RateLimited(FunctionModel(lambda r: "ok", name="m"), rpm=3, store=store, sleep=waits)
    with pytest.raises(TimeoutError):
        ask(other)  # the same model in another layer, as in another process


def test_tokens_are_booked_before_and_settled_after(store: Store) -> None:
    waits = Waits()
    used = Usage(requests=1, input_tokens=40, output_tokens=10)
    inner = FunctionModel(lambda r: ModelReply("ok", usage=used), name="m", max_output=500)
    model = RateLimited(inner, tpm=1000, store=store, sleep=waits)
    for _ in range(9):  # 50 each, though 500 and more are booked
        ask(model)
    for _ in range(5):
        try:
            ask(model)
        except TimeoutError:
            break
    else:
        pytest.fail("700 tokens and a booking of 500 are more than 1000")


def test_what_can_never_be_sent_is_refused(store: Store) -> None:
    model = RateLimited(FunctionModel(lambda r: "ok", max_output=500), tpm=100, store=store)
    with pytest.raises(ContextBudgetError):
        ask(model)
    assert model.profile.window == 100
    model = RateLimited(FunctionModel(lambda r: "ok", max_output=500), tokens_in_flight=100)
    with pytest.raises(ContextBudgetError):
        ask(model)


def test_tokens_in_flight_are_bounded() -> None:
    most = 0
    now = 0

    async def answer(request: ModelRequest) -> str:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return "ok"

    model = RateLimited(FunctionModel(answer, max_output=100), tokens_in_flight=350)

    async def main() -> None:
        await asyncio.gather(*(model.complete(QUESTION) for _ in range(20)))

    run(main)
    assert most == 3


def test_rates_hold_over_processes(tmp_path: Path) -> None:
    program = """
import sys, anyio
from wherry import FunctionModel, RateLimited, open_store
from wherry.models import ModelRequest
from wherry.messages import Message
async def stop(seconds): raise TimeoutError
async def main():
    model = RateLimited(FunctionModel(lambda r: "ok", name="m"), rpm=20, store=open_store(sys.argv[1]), sleep=stop)
    made = 0
    try:
        while made < 100:
            await model.complete(ModelRequest([Message("user", "x")]))
            made += 1
    except TimeoutError:
        pass
    print(made)
anyio.run(main)
"""
    url = f"sqlite:///{tmp_path / 'rates.db'}"
    open_store(url).close()
    started = time.monotonic()
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    made = sum(int(process.communicate(timeout=60)[0]) for process in processes)
    refilled = (time.monotonic() - started) / 3
    assert 20 <= made <= 20 + refilled + 1


def test_a_limit_is_wanted() -> None:
    with pytest.raises(ConfigurationError):
        RateLimited(ScriptedModel([]))
    with pytest.raises(ConfigurationError):
        RateLimited(ScriptedModel([]), rpm=0)


# ---- Fallback


def test_the_next_model_is_asked() -> None:
    first = ScriptedModel([fails("ServerError"), "again"])
    model = Fallback(first, ScriptedModel(["two"]))
    assert ask(model).text == "two"


def test_a_model_that_failed_rests() -> None:
    now = [0.0]
    first = ScriptedModel([fails("Overloaded"), "back"])
    model = Fallback(first, ScriptedModel(["two", "three"]), rest=60, clock=lambda: now[0])
    assert [ask(model).text, ask(model).text] == ["two", "three"]
    now[0] = 61
    assert ask(model).text == "back"


def test_kinds_that_are_no_other_models_turn() -> None:
    for kind in ("BadRequest", "ContentFiltered"):
        with pytest.raises(ModelError, match=kind):
            ask(Fallback(ScriptedModel([fails(kind)]), ScriptedModel(["two"])))
    model = Fallback(ScriptedModel([fails("Timeout")]), ScriptedModel(["two"]), on=["RateLimited"])
    with pytest.raises(ModelError, match="Timeout"):
        ask(model)


def test_the_last_models_failure_is_the_answer() -> None:
    with pytest.raises(ModelError, match="Overloaded"):
        ask(Fallback(ScriptedModel([fails("Timeout")]), ScriptedModel([fails("Overloaded")])))


def test_a_stream_that_has_begun_is_not_begun_anew() -> None:
    class Breaking(FunctionModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
            yield ModelDelta("half")
            raise fails("ConnectionLost")

    model = Fallback(Breaking(lambda r: "x"), ScriptedModel(["two"]))
    with pytest.raises(ModelError, match="ConnectionLost"):
        pieces(model)
    model = Fallback(ScriptedModel([fails("ConnectionLost")]), ScriptedModel(["two"]))
    assert pieces(model)[-1].reply is not None


def test_the_profile_is_what_all_of_them_take() -> None:
    first = ScriptedModel([], images=True, control_tokens=("<a>",), window=9000)
    second = ScriptedModel([], native_tools=False, control_tokens=("<b>",), window=100)
    profile = Fallback(first, second).profile
    assert (profile.window, profile.images, profile.native_tools) == (9000, False, False)
    assert profile.control_tokens == ("<a>", "<b>")


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigurationError, match="one model"):
        Fallback(ScriptedModel([]))
    with pytest.raises(ConfigurationError, match="Tiemout"):
        Fallback(ScriptedModel([]), ScriptedModel([]), on=["Tiemout"])


def test_layers_lie_around_one_another(store: Store) -> None:
    inner = ScriptedModel([fails("ServerError")])
    other = ScriptedModel(["two"])
    model = Cached(RateLimited(Fallback(inner, other), rpm=100, store=store), store=store)
    assert isinstance(model, Model)
    assert target(model) is inner
    assert ask(model).text == "two"
    assert ask(model).cached
    with Call() as call:
        assert target(model, call) is other, "the first one rests"


# ---- KeyRing


def keyed(server: PlaybackServer, *keys: str, **more: Any) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url, api_key=KeyRing(*keys, **more))


def refused(status: int, message: str = "no", **headers: str) -> Answer:
    return Answer({"error": {"message": message}}, status, headers)


def sent(server: PlaybackServer) -> list[str]:
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in server.seen]


@pytest.mark.parametrize("answer", [refused(401), refused(429), refused(402, "Insufficient Balance")])
def test_the_next_key_takes_over(server: PlaybackServer, answer: Answer) -> None:
    server.play(answer, completion("one"), completion("two"))
    model = keyed(server, FIRST, SECOND)
    assert [ask(model).text, ask(model).text] == ["one", "two"]
    assert sent(server) == [FIRST, SECOND, SECOND]


def test_other_failures_are_no_keys_fault(server: PlaybackServer) -> None:
    server.play(refused(500))
    with pytest.raises(ModelError):
        ask(keyed(server, FIRST, SECOND))
    assert sent(server) == [FIRST]


def test_a_key_over_its_rate_comes_back(server: PlaybackServer) -> None:
    now = [0.0]
    retry = refused(429, **{"retry-after": "5"})
    server.play(retry, retry, completion("one"))
    model = keyed(server, FIRST, SECOND, clock=lambda: now[0])
    with pytest.raises(ModelError) as caught:
        ask(model)
    assert caught.value.kind == "RateLimited"
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis["retry_after"] == 5.0
    now[0] = 6
    assert ask(model).text == "one"
    assert sent(server) == [FIRST, SECOND, SECOND]


def test_when_all_keys_are_refused_they_are_named(server: PlaybackServer) -> None:
    server.play(refused(401, f"Incorrect API key: {FIRST}"), refused(401, f"Incorrect API key: {SECOND}"))
    with pytest.raises(ModelError) as caught:
        ask(keyed(server, FIRST, SECOND))
    text = str(caught.value)
    assert caught.value.kind == "Authentication"
    assert FIRST[-4:] in text
    assert SECOND[-4:] in text


def test_every_key_that_is_tried_is_a_request_under_the_limits(server: PlaybackServer, store: Store) -> None:
    server.play(refused(429), refused(429), completion("late"))
    model = OpenAIModel("m", base_url=server.url, api_key=KeyRing(FIRST, SECOND, THIRD), window=8_000)
    agent = ToolCallingAgent(model=model, store=store)
    result = run(lambda: agent.arun("go", limits=Limits(requests=2)))
    assert (result.status, result.usage.requests) == (RunStatus.LIMIT, 2)
    asked = [key for key, seen in zip(sent(server), server.seen, strict=True) if seen.method == "POST"]
    assert asked == [FIRST, SECOND]
    assert run(lambda: agent.arun("go", limits=Limits(requests=1))).output == "late"


def test_streams_rotate_too(server: PlaybackServer) -> None:
    server.play(refused(401), events(delta("a"), delta(finish="stop")))
    assert pieces(keyed(server, FIRST, SECOND))[0].text == "a"


def test_no_key_is_written_down_anywhere(server: PlaybackServer, caplog: pytest.LogCaptureFixture) -> None:
    answers = [refused(401, f"Incorrect API key provided: {key}") for key in (FIRST, SECOND, THIRD)]
    server.play(*answers)
    ring = KeyRing(FIRST, SECOND, THIRD)
    model = OpenAIModel("m", base_url=server.url, api_key=ring, window=8000)
    store = open_store("memory://")
    agent = ToolCallingAgent(model=model, store=store)
    caplog.set_level(logging.DEBUG, "wherry")
    with pytest.raises(ModelError) as caught:
        anyio.run(agent.arun, "go")  # the model's connections are closed with the loop
    assert caught.value.run_id is not None
    written = [
        repr(ring),
        repr(model),
        str(caught.value),
        repr(caught.value.diagnosis),
        "".join(traceback.format_exception(caught.value)),
        caplog.text,
        *(row.body.decode() for row in store.events(caught.value.run_id)),
    ]
    for text in written:
        for key in (FIRST, SECOND, THIRD):
            assert key not in text
    acts = [row.body.decode() for row in store.events(caught.value.run_id) if row.type == "model.failed"]
    assert ['"act":"next_key"' in act for act in acts] == [True, True, False]
    with pytest.raises(TypeError):
        pickle.dumps(ring)


def test_a_rings_keys_are_looked_for_while_it_lives() -> None:
    secret = "nobody-knows-this-shape-9876"
    ring = KeyRing(secret)
    assert redact(f"<{secret}>") == "<…9876>"
    del ring
    gc.collect()
    until = time.monotonic() + 5
    while redact(secret) != secret and time.monotonic() < until:
        pass  # another thread may be at the list
    assert redact(secret) == secret


def test_an_empty_ring_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        KeyRing()
    with pytest.raises(ConfigurationError):
        KeyRing(["", " "])


def test_models_that_count_differently_are_counted_from_above() -> None:
    def counter(*counters: str) -> object:
        return Fallback(*(ScriptedModel([], counter=one) for one in counters)).profile.counter

    assert counter("qwen", "qwen") == "qwen"
    assert counter("o200k", "cl100k") == "bytes"
    assert counter("qwen", "qwen", "llama3") == "bytes"
    behind = Cached(Fallback(ScriptedModel([], counter="qwen"), ScriptedModel([], counter="llama3")))
    assert Fallback(ScriptedModel([], counter="qwen"), behind).profile.counter == "bytes"
    assert (
        anyio.run(Fallback(ScriptedModel([], counter="qwen"), ScriptedModel([], counter="o200k")).prepare).counter
        == "bytes"
    )
