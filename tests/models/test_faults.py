"""Agents against a server that fails in every way known: each run ends right, or with the right diagnosis, in time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from playback_server import Answer, PlaybackServer, completion, delta, events
from server_answers import ANSWERS, Row

from wherry import Limits, OpenAIModel, ToolCallingAgent, open_store
from wherry.errors import ModelError, WherryError
from wherry.journal import Event, EventType
from wherry.policy.recovery import Recovery, use_recovery

SECONDS = 20.0
"""That a run may take; none comes near."""
TRIED_AGAIN = {
    *("ContextOverflow", "OutOfMemory", "RateLimited", "Overloaded", "Timeout", "ConnectionLost", "ServerError"),
}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def final(answer: str = "done") -> dict[str, Any]:
    function = {"name": "final_answer", "arguments": json.dumps({"answer": answer})}
    return completion(None, tool_calls=[{"id": "c1", "type": "function", "function": function}], finish="tool_calls")


class Outcome:
    def __init__(self, server: PlaybackServer, *, deltas: bool = False, **options: Any) -> None:
        self.events: list[Event] = []
        self.error: WherryError | None = None
        model = OpenAIModel("m", base_url=server.url, window=16_000, **options)
        agent = ToolCallingAgent(model=model, store=open_store("memory://"))
        # Each run has a server, and so a backend, of its own: the port differs.
        started = time.monotonic()
        anyio.run(self._run, agent, deltas)
        self.seconds = time.monotonic() - started

    async def _run(self, agent: ToolCallingAgent, deltas: bool) -> None:
        clock = Clock()
        rules = Recovery(clock=clock, sleep=clock.sleep, patience=1e9)
        try:
            with use_recovery(rules):
                async for event in agent.astream("go", deltas=deltas, limits=Limits(seconds=1e6)):
                    self.events.append(event)
        except WherryError as error:
            self.error = error

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [dict(event.payload) for event in self.events if event.type is EventType.MODEL_FAILED]

    @property
    def kinds(self) -> list[str]:
        return [failure["kind"] for failure in self.failures]

    @property
    def finished(self) -> dict[str, Any]:
        return dict(self.events[-1].payload)

    @property
    def warnings(self) -> list[str]:
        return [event.payload["message"] for event in self.events if event.type is EventType.WARNING]


def played(server: PlaybackServer, kind: str, answer: Answer) -> None:
    """One failure and then an answer: what can be survived is, and what cannot is told as what it is."""
    server.play(answer, final())
    outcome = Outcome(server)
    assert outcome.kinds == [kind], outcome.failures
    assert outcome.seconds < SECONDS
    if kind in TRIED_AGAIN:
        assert outcome.error is None, outcome.error
        assert outcome.finished["status"] == "completed"
    else:
        assert isinstance(outcome.error, ModelError)
        assert outcome.error.kind == kind
        assert outcome.error.diagnosis is not None
        assert outcome.error.diagnosis["sizes"]
        assert outcome.finished["status"] == "failed"
        assert len(server.bodies) == 1


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ANSWERS if row[1] is not None])
def test_every_answer_that_a_server_gives(server: PlaybackServer, row: Row) -> None:
    kind, status, body, _ = row
    assert status is not None
    if isinstance(body, str) and status == 200:
        played(server, kind, Answer([body]))
    else:
        media = "text/html" if isinstance(body, str) else "application/json"
        text = body if isinstance(body, str) else json.dumps(body)
        played(server, kind, Answer(text, status, media_type=media))


@pytest.mark.slow
def test_every_recorded_answer(acceptance: Path) -> None:
    cases = json.loads((acceptance / "backend_errors.json").read_text())["cases"]
    for case in cases:
        if case["status"] is None:
            continue
        with PlaybackServer() as server:
            played(server, case["want"], Answer(case["body"], case["status"], headers=case["headers"]))


# ---- connections


@pytest.mark.parametrize(
    "answer",
    [
        Answer('{"choices": [{"mess', ending="reset", declared=5000),
        Answer('{"choices": [{"mess', declared=5000),
        Answer("", ending="reset", declared=50),
    ],
)
def test_an_answer_that_breaks_off(server: PlaybackServer, answer: Answer) -> None:
    played(server, "ConnectionLost", answer)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(events(delta("half a repl"), done=False)),
        Answer(events(delta("half a repl"), done=False), ending="reset"),
        Answer([*events(delta("half"), done=False), 'data: {"choices": [{"del']),
        Answer(events(done=True)),
        Answer(events(done=False)),
    ],
)
def test_half_a_stream_is_never_taken_for_a_reply(server: PlaybackServer, answer: Answer) -> None:
    server.play(answer, events(delta("whole"), delta(finish="stop")))
    outcome = Outcome(server, deltas=True)
    assert outcome.kinds == ["ConnectionLost"]
    assert outcome.error is None
    assert outcome.finished["output"] == "whole"


@pytest.mark.parametrize(
    ("answer", "options", "said"),
    [
        (Answer("", ending="stall", declared=50), {"timeout": 0.3}, "not done within 0.3 s"),
        (Answer([": waiting\n\n"], ending="stall"), {"first_token_timeout": 0.3}, "no first token within 0.3 s"),
        (Answer(events(delta("a"), done=False), ending="stall"), {"stall_timeout": 0.3}, "nothing further for 0.3 s"),
    ],
)
def test_a_server_that_hangs(server: PlaybackServer, answer: Answer, options: dict[str, float], said: str) -> None:
    server.play(answer, events(delta("whole"), delta(finish="stop")))
    outcome = Outcome(server, deltas=True, **options)
    assert outcome.kinds == ["Timeout"]
    assert said in outcome.failures[0]["message"]
    assert outcome.finished["output"] == "whole"
    assert server.gone.wait(5), "the connection was given up"


def test_a_server_that_stays_down_is_told_as_that() -> None:
    with PlaybackServer() as server:
        pass
    outcome = Outcome(server)
    assert outcome.kinds == ["ConnectionLost"]
    assert isinstance(outcome.error, ModelError)
    assert "no server answers at" in str(outcome.error)
    assert "not healthy again" in str(outcome.error)


def test_an_error_event_after_status_200(server: PlaybackServer) -> None:
    error = {"error": {"message": "CUDA out of memory", "code": 500}}
    server.play(Answer(events(delta("par"), error, done=False)), events(delta("whole"), delta(finish="stop")))
    outcome = Outcome(server, deltas=True)
    assert outcome.kinds == ["OutOfMemory"]
    assert outcome.failures[0]["act"] == "halve"
    assert outcome.finished["output"] == "whole"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("error", "ServerError"), ("abort", "ServerError"), ("insufficient_system_resource", "Overloaded")],
)
def test_a_reply_that_the_server_broke_off(server: PlaybackServer, reason: str, kind: str) -> None:
    server.play(completion("half a sen", finish=reason), completion("whole"))
    outcome = Outcome(server)
    assert outcome.kinds == [kind]
    assert outcome.finished["output"] == "whole"


def test_a_fault_that_names_tools_is_not_tried_again(server: PlaybackServer) -> None:
    server.play(Answer({"error": {"message": "Failed to parse tool call arguments as JSON", "code": 500}}, 500))
    outcome = Outcome(server)
    assert outcome.kinds == ["BadRequest"]
    assert len(server.bodies) == 1


# ---- lies


def test_lies_about_usage(server: PlaybackServer) -> None:
    for usage in ({"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": -5}, {"prompt_tokens": 10**12}):
        server.play(completion("whole", usage=usage))
        outcome = Outcome(server)
        assert outcome.finished["output"] == "whole"


def test_a_prompt_that_was_cut_is_told_of(server: PlaybackServer) -> None:
    server.play(completion("whole", usage={"prompt_tokens": 5, "completion_tokens": 3}))
    outcome = Outcome(server, counter="o200k")
    assert outcome.finished["output"] == "whole"
    assert [warning.split(":")[0] for warning in outcome.warnings] == ["SilentTruncation"]


def test_the_sdk_does_not_retry(server: PlaybackServer) -> None:
    server.play(*[Answer({"error": "no"}, 500)] * 9)
    outcome = Outcome(server)
    assert isinstance(outcome.error, ModelError)
    assert len(server.bodies) == 4, "one attempt and three further ones, all of the policy"


# ---- health, and how much a server takes


@pytest.mark.parametrize(
    ("health", "models", "healthy"),
    [
        (Answer({"status": "ok"}), None, True),
        (Answer("", media_type="text/plain"), None, True),
        (Answer({"error": {"message": "Loading model"}}, 503), Answer({"data": []}), False),
        (None, Answer({"data": []}), True),
        (None, Answer({"error": "who are you?"}, 401), True),
        (None, None, True),
        (None, Answer("", 502), False),
    ],
)
def test_health(server: PlaybackServer, health: Answer | None, models: Answer | None, healthy: bool) -> None:
    pages = {"/health": health, "/v1/models": models}
    server.pages.update({path: page for path, page in pages.items() if page is not None})
    assert anyio.run(OpenAIModel("m", base_url=server.url).healthy) is healthy


def test_nobody_there_is_not_healthy() -> None:
    with PlaybackServer() as server:
        model = OpenAIModel("m", base_url=server.url)
    assert anyio.run(model.healthy) is False


def test_how_much_a_llama_cpp_server_takes_is_asked_of_it(server: PlaybackServer) -> None:
    server.pages["/v1/models"] = Answer({"data": [{"id": "m", "owned_by": "llamacpp"}]})
    server.pages["/props"] = Answer({"default_generation_settings": {"n_ctx": 2048}, "total_slots": 3})
    profile = anyio.run(OpenAIModel("m", base_url=server.url).prepare)
    assert (profile.window, profile.slots, profile.tokens_in_flight) == (2048, 3, 6144)
