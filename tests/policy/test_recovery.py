"""What is done when a model's server fails: the policy by itself, and agents that live by it."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import Fallback, FunctionModel, Limits, ScriptedModel, ToolCallingAgent, open_store
from wherry.errors import ModelError, WherryError
from wherry.journal import Event, EventType
from wherry.messages import ToolCall, Usage
from wherry.models import Failure, FailureKind, ModelDelta, ModelReply, ModelRequest
from wherry.policy.recovery import Recovery, Trouble, use_recovery


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def policy(clock: Clock, **more: Any) -> Recovery:
    return Recovery(clock=clock, sleep=clock.sleep, **more)


def done(answer: object = "done") -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("1", "final_answer", {"answer": answer})])


def fails(kind: str, message: str = "no", **diagnosis: Any) -> ModelError:
    return ModelError(message, kind=kind, diagnosis={"kind": kind, **diagnosis} if diagnosis else None)


class Team:
    """An agent, the events of its runs, and a clock of its own."""

    def __init__(self, model: Any, *, recovery: dict[str, Any] | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.recovery = policy(self.clock, **(recovery or {}))
        self.store = open_store("memory://")
        self.agent = ToolCallingAgent(model=model, store=self.store, **options)
        self.events: list[Event] = []

    def run(self, task: str = "go", **options: Any) -> None:
        async def main() -> None:
            with use_recovery(self.recovery):
                async for event in self.agent.astream(task, **options):
                    self.events.append(event)

        anyio.run(main)

    def fails(self, task: str = "go", **options: Any) -> WherryError:
        with pytest.raises(WherryError) as caught:
            self.run(task, **options)
        return caught.value

    def payloads(self, kind: EventType) -> list[dict[str, Any]]:
        return [dict(event.payload) for event in self.events if event.type is kind]

    @property
    def acts(self) -> list[str]:
        return [payload["act"] for payload in self.payloads(EventType.MODEL_FAILED)]

    @property
    def status(self) -> str:
        return str(self.payloads(EventType.RUN_FINISHED)[-1]["status"])


def scripted(*replies: Any, **profile: Any) -> ScriptedModel:
    return ScriptedModel(replies, **profile)


# ---- the policy by itself

KINDS = st.sampled_from(list(FailureKind))


def trouble(count: int, kind: FailureKind, **more: Any) -> Trouble:
    found = Trouble(8000, 6000, jitter=random.Random(1), **more)
    found.counts[kind] = count
    return found


@given(
    kind=KINDS,
    count=st.integers(1, 40),
    left=st.none() | st.floats(0, 1e6),
    after=st.none() | st.floats(0, 1e7),
    waited=st.floats(0, 1e5),
    limit=st.none() | st.integers(1, 10**7),
    requested=st.none() | st.integers(1, 10**7),
)
def test_no_wait_is_longer_than_what_the_run_has(
    kind: FailureKind,
    count: int,
    left: float | None,
    after: float | None,
    waited: float,
    limit: int | None,
    requested: int | None,
) -> None:
    rules = Recovery()
    state = trouble(count, kind, seconds_left=left, waited=waited)
    failure = Failure(kind, limit, requested, after)
    decision = rules.decide(failure, state)
    assert decision == rules.decide(failure, trouble(count, kind, seconds_left=left, waited=waited))
    if left is None:
        assert decision.wait == 0 or waited + decision.wait <= rules.patience
    else:
        assert decision.wait == 0 or decision.wait < left
    if decision.act == "shrink":
        assert decision.window is not None
        assert 0 < decision.window < state.asked
    assert bool(decision.why) == (decision.act == "give_up")


@given(kind=KINDS)
def test_every_kind_comes_to_an_end(kind: FailureKind) -> None:
    rules = Recovery()
    assert rules.decide(Failure(kind), trouble(rules.waits + 1, kind)).act == "give_up"


@pytest.mark.parametrize(
    ("kind", "acts"),
    [
        ("OutOfMemory", ["halve", "halve", "give_up"]),
        ("Timeout", ["retry", "retry", "retry", "give_up"]),
        ("ConnectionLost", ["retry", "retry", "retry", "give_up"]),
        ("ServerError", ["retry", "retry", "retry", "give_up"]),
        ("Authentication", ["give_up"]),
        ("QuotaExhausted", ["give_up"]),
        ("BadRequest", ["give_up"]),
        ("ContentFiltered", ["give_up"]),
    ],
)
def test_what_is_tried_of_each_kind(kind: str, acts: list[str]) -> None:
    asked: list[ModelRequest] = []

    def answer(request: ModelRequest) -> ModelReply:
        asked.append(request)
        raise fails(kind)

    team = Team(FunctionModel(answer))
    error = team.fails()
    assert isinstance(error, ModelError)
    assert error.kind == kind
    assert team.acts == acts
    assert len(asked) == len(acts)
    assert [p.get("attempt", 1) for p in team.payloads(EventType.MODEL_REQUESTED)] == [*range(1, len(acts) + 1)]
    assert team.status == "failed"


def test_rate_limits_are_waited_for_as_long_as_the_server_asks() -> None:
    team = Team(scripted(fails("RateLimited", retry_after=20.0), fails("Overloaded", retry_after=3.0), done()))
    team.run()
    assert team.status == "completed"
    assert team.acts == ["wait", "wait"]
    assert 20 <= team.clock.slept[0] <= 22
    assert 3 <= team.clock.slept[1] <= 3.5
    assert [p["wait"] for p in team.payloads(EventType.MODEL_FAILED)] == pytest.approx(team.clock.slept, abs=0.001)


def test_backoff_doubles_with_jitter_that_is_recorded() -> None:
    team = Team(scripted(*[fails("Overloaded")] * 6, done()))
    team.run()
    for number, slept in enumerate(team.clock.slept):
        longest = 0.5 * 2**number
        assert longest / 2 <= slept <= longest


def test_a_wait_that_the_run_has_no_time_for_is_not_begun() -> None:
    team = Team(scripted(fails("RateLimited", retry_after=3600.0), done()))
    error = team.fails(limits=Limits(seconds=30))
    assert team.clock.slept == []
    assert isinstance(error, ModelError)
    assert error.kind == "RateLimited"
    assert "the run has" in str(error)
    assert team.acts == ["give_up"]


def test_without_a_limit_of_seconds_patience_ends() -> None:
    team = Team(scripted(*[fails("RateLimited", retry_after=250.0)] * 5))
    team.fails()
    assert team.acts == ["wait", "wait", "give_up"]


# ---- overflow


class Server(FunctionModel):
    """Refuses requests over a true window, as llama.cpp does; counts four characters to a token."""

    def __init__(self, true_window: int, *, says: bool = True, **profile: Any) -> None:
        super().__init__(self._answer, **{"window": 32_000, "max_output": 200, **profile})
        self.true_window = true_window
        self.says = says
        self.sizes: list[int] = []
        self.steps = 0

    def _answer(self, request: ModelRequest) -> ModelReply:
        size = sum(len(m.content) + sum(len(str(c.arguments)) for c in m.tool_calls) for m in request.messages) // 4
        self.sizes.append(size)
        if size > self.true_window:
            told = {"limit": self.true_window, "requested": size} if self.says else {}
            raise fails("ContextOverflow", "the prompt is too long", detail="", **told)
        self.steps += 1
        if self.steps < 12:
            return ModelReply(tool_calls=[ToolCall(str(self.steps), "look", {"n": self.steps})])
        return done(self.steps)


def look(n: int) -> str:
    """Look.

    Args:
        n: Which.
    """
    return f"{n}: " + "word " * 800


@pytest.mark.parametrize("says", [True, False])
def test_an_overflow_is_compacted_to_what_the_server_takes(says: bool) -> None:
    server = Server(5000, says=says)
    team = Team(server, tools=[look])
    team.run()
    assert team.status == "completed"
    assert 1 <= team.acts.count("shrink") <= 4
    refused = [size for size in server.sizes if size > 5000]
    assert len(refused) == len(team.acts)
    assert any(event.type is EventType.CONTEXT_COMPACTED for event in team.events)


def test_a_limit_that_was_learned_holds_for_the_next_run() -> None:
    server = Server(5000)
    team = Team(server, tools=[look])
    team.run()
    first = len(team.acts)
    assert first >= 1
    server.steps = 0
    team.run()
    assert len(team.acts) == first, "the second run knows"


def test_parts_that_cannot_be_folded_are_told_as_the_overflow() -> None:
    team = Team(Server(100), instructions="rule " * 700)
    error = team.fails()
    assert isinstance(error, ModelError)
    assert error.kind == "ContextOverflow"
    assert "nothing smaller can be sent" in str(error)
    assert error.diagnosis is not None
    assert error.diagnosis["sizes"]["system prompt"] > 100


# ---- memory


def test_out_of_memory_halves_and_grows_back() -> None:
    seen: list[int] = []

    def answer(request: ModelRequest) -> ModelReply:
        seen.append(1)
        if len(seen) in (2, 3):
            raise fails("OutOfMemory", "CUDA out of memory")
        return ModelReply(tool_calls=[ToolCall(str(len(seen)), "look", {"n": 1})]) if len(seen) < 60 else done()

    team = Team(FunctionModel(answer, window=32_000), tools=[look], max_steps=80)
    team.run()
    assert team.acts == ["halve", "halve"]
    windows = [payload["window"] for payload in team.payloads(EventType.MODEL_REQUESTED)]
    assert windows[:4] == [32_000, 32_000, 16_000, 8_000]
    assert windows == windows[:4] + sorted(windows[4:]), "it only grows from then on"
    assert windows[10] < 16_000, "slowly"
    assert windows[-1] == 32_000


class Healing(FunctionModel):
    """Fails for want of memory, and is not healthy for a while after."""

    def __init__(self, sick: int) -> None:
        super().__init__(self._answer, window=8000)
        self.sick = sick
        self.calls = 0

    def _answer(self, request: ModelRequest) -> ModelReply:
        self.calls += 1
        if self.calls == 1:
            raise fails("OutOfMemory")
        assert self.sick <= 0, "asked before it was healthy"
        return done()

    async def healthy(self) -> bool:
        self.sick -= 1
        return self.sick <= 0


def test_health_is_waited_for() -> None:
    team = Team(Healing(5))
    team.run()
    assert team.status == "completed"
    assert len(team.clock.slept) == 5  # the backoff, then four looks


def test_a_server_that_never_comes_up_again_is_told() -> None:
    team = Team(Healing(10**9), recovery={"health": 30.0})
    error = team.fails()
    assert isinstance(error, ModelError)
    assert error.kind == "OutOfMemory"
    assert "not healthy again within 30 s" in str(error)
    assert sum(team.clock.slept) < 35


# ---- the error


def test_the_error_carries_the_diagnosis() -> None:
    team = Team(scripted(*[fails("ServerError", "boom")] * 4))
    error = team.fails("a task")
    assert isinstance(error, ModelError)
    assert error.run_id is not None
    assert error.diagnosis is not None
    assert error.diagnosis["kind"] == "ServerError"
    assert error.diagnosis["attempts"] == 4
    assert error.diagnosis["sizes"]["task"] > 0
    assert len(error.diagnosis["tried"]) == 4
    assert "tried: waited" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert copy.diagnosis == error.diagnosis
    assert str(team.fails("again")).count("tried:") == 1, "the same exception, raised again"


def test_a_program_that_fails_is_no_server_that_fails() -> None:
    calls: list[int] = []

    def broken(request: ModelRequest) -> ModelReply:
        calls.append(1)
        raise KeyError("oops")

    team = Team(FunctionModel(broken))
    error = team.fails()
    assert "KeyError" in str(error)
    assert len(calls) == 1


def test_a_models_own_connection_error_is_tried_again() -> None:
    team = Team(scripted(ConnectionResetError("reset"), TimeoutError(), done()))
    team.run()
    assert team.acts == ["retry", "retry"]


def test_cancelling_ends_a_wait() -> None:
    async def main() -> None:
        waiting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.set()
            await asyncio.sleep(3600)

        agent = ToolCallingAgent(model=scripted(fails("Overloaded"), done()), store="memory://")
        with use_recovery(Recovery(sleep=sleep)):
            task = asyncio.create_task(agent.arun("go"))
        waits = asyncio.create_task(waiting.wait())
        await asyncio.wait([task, waits], return_when=asyncio.FIRST_COMPLETED)
        assert waits.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    anyio.run(main)


# ---- other models


def test_a_fallback_gets_what_could_not_be_recovered() -> None:
    dead = FunctionModel(lambda request: (_ for _ in ()).throw(fails("ConnectionLost", "gone")), name="dead")
    alive = scripted(done("from the other"), name="alive")
    team = Team(Fallback(dead, alive))
    team.run()
    assert team.status == "completed"
    assert team.acts == ["retry", "retry", "retry", "give_up"]
    warnings = [payload["message"] for payload in team.payloads(EventType.WARNING)]
    assert warnings == ["dead failed (ConnectionLost); alive is asked instead"]


def test_a_fallback_with_a_smaller_window_gets_a_smaller_request() -> None:
    sizes: list[int] = []

    def big(request: ModelRequest) -> ModelReply:
        if len(request.messages) > 8:
            raise fails("QuotaExhausted")
        return ModelReply(tool_calls=[ToolCall(str(len(request.messages)), "look", {"n": 1})])

    def small(request: ModelRequest) -> ModelReply:
        sizes.append(sum(len(m.content) for m in request.messages) // 4)
        return done()

    team = Team(Fallback(FunctionModel(big, window=32_000), FunctionModel(small, window=8_000)), tools=[look])
    team.run()
    assert team.status == "completed"
    assert team.acts == ["give_up"]
    assert sizes[0] <= 8_000


def test_a_filtered_request_is_no_other_models_turn_unless_it_is_said() -> None:
    first = scripted(fails("ContentFiltered"))
    team = Team(Fallback(first, scripted(done())))
    team.fails()
    team = Team(Fallback(scripted(fails("ContentFiltered")), scripted(done()), on=["ContentFiltered"]))
    team.run()
    assert team.status == "completed"


# ---- silent truncation


def test_a_server_that_cuts_prompts_in_silence_is_told_of() -> None:
    def answer(request: ModelRequest) -> ModelReply:
        reply = done() if len(request.messages) > 6 else ModelReply(tool_calls=[ToolCall("1", "look", {"n": 1})])
        said = sum(len(m.content) for m in request.messages) // 4
        return ModelReply(
            tool_calls=reply.tool_calls, usage=Usage(requests=1, input_tokens=min(said, 700), output_tokens=5)
        )

    team = Team(FunctionModel(answer, counter="o200k", window=16000), tools=[look])
    team.run()
    warnings = [payload["message"] for payload in team.payloads(EventType.WARNING)]
    assert len(warnings) == 1
    assert warnings[0].startswith("SilentTruncation")


# ---- streaming


def words(text: str, *, cut: bool = False) -> Any:
    """A model that streams, and may end in the middle."""

    class Streaming(FunctionModel):
        calls = 0

        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
            Streaming.calls += 1
            for word in text.split(" "):
                yield ModelDelta(word + " ")
                if cut and Streaming.calls == 1:
                    return
            yield ModelDelta(reply=done(text))

    return Streaming(lambda request: done("not streamed"))


def test_pieces_are_told_and_not_kept() -> None:
    team = Team(words("one two three"))
    team.run(deltas=True)
    told = [(event.payload["text"], event.seq) for event in team.events if event.type is EventType.MODEL_DELTA]
    assert told == [("one ", 0), ("two ", 0), ("three ", 0)]
    kept = list(team.store.events(team.events[0].run_id))
    assert [row.type for row in kept] == [str(event.type) for event in team.events if event.seq]


def test_without_a_wish_for_pieces_nothing_is_streamed() -> None:
    team = Team(words("one two"))
    team.run()
    assert team.payloads(EventType.MODEL_DELTA) == []
    assert team.payloads(EventType.RUN_FINISHED)[0]["output"] == "not streamed"


def test_half_a_stream_is_no_reply() -> None:
    team = Team(words("one two", cut=True))
    team.run(deltas=True)
    assert team.acts == ["retry"]
    told = [(event.payload["attempt"], event.payload["text"]) for event in team.events if event.type == "model.delta"]
    assert told == [(1, "one "), (2, "one "), (2, "two ")]
    assert team.payloads(EventType.RUN_FINISHED)[0]["output"] == "one two"
