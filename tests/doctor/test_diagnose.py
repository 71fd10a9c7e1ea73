"""`diagnose` finds where a backend first fails, and says what to change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import anyio
import pytest

from wherry import FunctionModel, ToolCallingAgent, Usage, open_store, tool
from wherry.context.counting import TokenCounter
from wherry.doctor.diagnose import REPLY_TOKENS, Probe, Question, diagnose, question_of, verdict
from wherry.errors import ConfigurationError, ModelError
from wherry.journal import EventType, Journal
from wherry.messages import Message, ToolCall, ToolSchema
from wherry.models import Model, ModelReply, ModelRequest

LONG = [Message("system", "Be brief.")]
for number in range(40):
    LONG.append(Message("user", f"Question {number}? " + "word " * 50))
    LONG.append(Message("assistant", "", tool_calls=[ToolCall(f"c{number}", "look", {})]))
    LONG.append(Message("tool", "found " * 40, tool_call_id=f"c{number}", name="look"))
LOOK = ToolSchema("look", "Look.", {"type": "object", "properties": {}})


def probes(model: Model, question: Question | None = None) -> list[Probe]:
    async def main() -> list[Probe]:
        return [probe async for probe in diagnose(model, question)]

    return anyio.run(main)


def size(request: ModelRequest, model: Model) -> int:
    counter = TokenCounter.for_profile(model.profile)
    return sum(counter.message(message) for message in request.messages) + counter.tools(request.tools)


def server(failing: Callable[[ModelRequest, int], ModelError | None]) -> FunctionModel:
    """A server that fails as told, by request and its tokens."""

    def answer(request: ModelRequest) -> str:
        error = failing(request, size(request, model))
        if error is not None:
            raise error
        return "ok"

    model = FunctionModel(answer, window=8_192)
    return model


def overflow(request: ModelRequest, tokens: int) -> ModelError | None:
    return ModelError("context length exceeded", kind="ContextOverflow") if tokens > 3_000 else None


def test_the_edge_between_good_and_bad_is_found_to_the_turn() -> None:
    model = server(overflow)
    tried = probes(model, Question(LONG, [LOOK]))
    good = max((probe for probe in tried if probe.ok), key=lambda probe: probe.messages)
    bad = min((probe for probe in tried if not probe.ok), key=lambda probe: probe.messages)
    assert good.tokens <= 3_000 < bad.tokens
    assert bad.messages - good.messages <= 2  # one turn, or the question that opens it
    assert len(tried) < 16
    said = verdict(tried, model.profile)
    assert "ContextOverflow" in said
    assert f"window={good.tokens}" in said


def test_made_up_history_finds_the_true_window() -> None:
    model = server(overflow)
    tried = probes(model)
    good = max(probe.tokens for probe in tried if probe.ok)
    assert 2_800 < good <= 3_000
    assert "8,192" in verdict(tried, model.profile)


def test_a_healthy_server_passes() -> None:
    model = server(lambda request, tokens: None)
    tried = probes(model)
    assert all(probe.ok for probe in tried)
    assert max(probe.tokens for probe in tried) > 7_500
    assert verdict(tried, model.profile).startswith("nothing failed")


def test_tools_that_a_server_cannot_take() -> None:
    def failing(request: ModelRequest, tokens: int) -> ModelError | None:
        return ModelError("tools are not supported", kind="BadRequest") if request.tools else None

    model = server(failing)
    tried = probes(model, Question(LONG, [LOOK]))
    assert [probe.what for probe in tried if not probe.ok] == ["with 1 tools"]
    assert "CodeAgent" in verdict(tried, model.profile)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("Authentication", "key is refused"),
        ("QuotaExhausted", "nothing left"),
        ("ConnectionLost", "is it up"),
        ("RateLimited", "RateLimited(model"),
        ("OutOfMemory", "wherry fit"),
        ("ServerError", "It said: broken"),
    ],
)
def test_what_fails_at_once_is_no_matter_of_size(kind: str, advice: str) -> None:
    model = server(lambda request, tokens: ModelError("broken", kind=kind))
    tried = probes(model, Question(LONG, [LOOK]))
    assert len(tried) == 1
    assert advice in verdict(tried, model.profile)


@pytest.mark.parametrize("kind", ["RateLimited", "BadRequest", "Authentication", "QuotaExhausted", "ServerError"])
@pytest.mark.parametrize("question", [None, Question(LONG, [LOOK])])
def test_what_is_no_matter_of_size_is_not_searched_for(kind: str, question: Question | None) -> None:
    model = server(lambda request, tokens: ModelError("broken", kind=kind) if tokens > 3_000 else None)
    tried = probes(model, question)
    assert [probe.ok for probe in tried] == [True] * (len(tried) - 1) + [False]


@pytest.mark.parametrize("kind", ["ServerError", "Timeout", "ConnectionLost"])
def test_what_may_be_chance_is_tried_once_more(kind: str) -> None:
    sent: list[int] = []

    def failing(request: ModelRequest, tokens: int) -> ModelError | None:
        sent.append(tokens)
        return ModelError("once", kind=kind) if len(sent) in (2, 5) else None

    tried = probes(server(failing))
    assert all(probe.ok for probe in tried)
    assert len(sent) == len(tried) + 2


def test_a_server_that_hangs_ends_by_the_deadline_of_the_probe() -> None:
    hung: list[ModelRequest] = []

    async def answer(request: ModelRequest) -> str:
        hung.append(request)
        await anyio.sleep_forever()
        return "never"

    async def main() -> list[Probe]:
        return [probe async for probe in diagnose(FunctionModel(answer), deadline=0.01)]

    [probe] = anyio.run(main)
    assert (probe.ok, probe.kind) == (False, "Timeout")
    assert "within 0.01 s" in probe.said
    assert len(hung) == 2


def test_no_probe_repeats_the_one_before() -> None:
    sent: list[list[Message]] = []

    def answer(request: ModelRequest) -> str:
        sent.append(list(request.messages))
        return "ok"

    probes(FunctionModel(answer), Question(LONG[:10]))
    assert all(now != before for before, now in pairwise(sent))


@pytest.mark.parametrize("kind", ["ContextOverflow", "OutOfMemory"])
def test_the_advice_is_in_the_servers_own_tokens(kind: str) -> None:
    def answer(request: ModelRequest) -> ModelReply:
        seen = size(request, model) // 3
        if seen > 1_000:
            raise ModelError("no room", kind=kind)
        return ModelReply("ok", usage=Usage(requests=1, input_tokens=seen))

    model = FunctionModel(answer, window=8_192)
    tried = probes(model)
    good = max((probe for probe in tried if probe.ok), key=lambda probe: probe.tokens)
    assert good.reported is not None
    assert good.reported <= 1_000 < good.tokens
    assert f"window={good.reported + REPLY_TOKENS}" in verdict(tried, model.profile)


def probe_of(tokens: int, *, ok: bool = False, reported: int | None = None, limit: int | None = None) -> Probe:
    kind = "" if ok else "ContextOverflow"
    return Probe("so", messages=1, tokens=tokens, ok=ok, seconds=0.1, reported=reported, kind=kind, limit=limit)


def test_what_was_not_reported_is_scaled_by_what_was() -> None:
    tried = [probe_of(1_000, ok=True, reported=250), probe_of(4_000, ok=True), probe_of(8_000)]
    assert "window=1000" in verdict(tried, server(overflow).profile)


@pytest.mark.parametrize("kind", ["ContextOverflow", "OutOfMemory"])
@pytest.mark.parametrize("most", [0, 300])
def test_where_hardly_anything_goes_through_no_window_is_advised(kind: str, most: int) -> None:
    model = server(lambda request, tokens: ModelError("no room", kind=kind) if tokens > most else None)
    said = verdict(probes(model), model.profile)
    assert "window=" not in said
    assert "no size does" in said


def test_a_limit_that_the_server_names_is_believed() -> None:
    profile = server(overflow).profile
    assert "window=4096" in verdict([probe_of(9_000, limit=4_096)], profile)
    assert "window=" not in verdict([probe_of(9_000, limit=128)], profile)


def test_a_server_that_truncates_silently_is_caught() -> None:
    def answer(request: ModelRequest) -> ModelReply:
        seen = min(size(request, model) // 3, 600)  # the estimate is three times the truth; it reads 600 at most
        return ModelReply("ok", usage=Usage(requests=1, input_tokens=seen))

    model = FunctionModel(answer, window=8_192)
    tried = probes(model)
    assert any(probe.truncated for probe in tried)
    assert "window=600" in verdict(tried, model.profile)


def test_the_request_of_a_run_is_made_again_with_its_tools() -> None:
    @tool
    def look(where: str) -> str:
        """Look.

        Args:
            where: at what
        """
        return f"nothing at {where}"

    sent: list[ModelRequest] = []

    def answer(request: ModelRequest) -> ModelReply:
        sent.append(request)
        if len(sent) == 3:
            raise ModelError("too long", kind="BadRequest")
        return ModelReply(tool_calls=[ToolCall(f"c{len(sent)}", "look", {"where": "here"})])

    store = open_store("memory://")
    with pytest.raises(ModelError) as caught:
        ToolCallingAgent([look], FunctionModel(answer), store=store).run("Look around.")
    question = question_of(store, caught.value.run_id or "")
    assert list(question.messages) == list(sent[2].messages)
    assert [schema.to_json() for schema in question.tools] == [schema.to_json() for schema in sent[2].tools]


def test_a_run_without_requests() -> None:
    store = open_store("memory://")

    async def main() -> str:
        journal = Journal.start(store, agent="a")
        journal.record(EventType.RUN_STARTED, task="x", kind="tools", model="m")
        await journal.commit()
        return journal.run_id

    with pytest.raises(ConfigurationError, match="made no request"):
        question_of(store, anyio.run(main))
