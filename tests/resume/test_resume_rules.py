"""What `resume` does with runs that ended otherwise than by a crash, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.resume.scenes import asked_before, code, tools_in, with_steps

from wherry import (
    CodeAgent,
    FunctionModel,
    Limits,
    RunStatus,
    ScriptedModel,
    ToolCallingAgent,
    open_store,
    tool,
)
from wherry.errors import ConfigurationError, ModelError, RunNotFound, StoreConflict, StoreError
from wherry.journal import Event, EventType, Journal, messages_of_request, read_events, verify
from wherry.messages import Message, ToolCall
from wherry.models import ModelReply, ModelRequest, Price
from wherry.store import Store
from wherry.tools import current_context


@pytest.fixture
def store() -> Iterable[Store]:
    store = open_store("memory://")
    yield store
    store.close()


def call(n: int, name: str = "look") -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(f"c{n}", name, {"n": n})])


def answer(value: object) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": value})])


def counting(store: Store, folder: Path, steps: int, **options: Any) -> ToolCallingAgent:
    """Looks a number up at each step, as many as there are; then answers."""

    def reply(request: ModelRequest) -> ModelReply:
        n = asked_before(request)
        if not request.tools:
            return ModelReply(f"words after {n}")
        return call(n) if n < steps else answer(f"{n} steps")

    return ToolCallingAgent(tools_in(folder), FunctionModel(reply), store=store, **with_steps(options, 30))


def events(store: Store, run_id: str) -> list[Event]:
    return [*read_events(store, run_id)]


def count(store: Store, run_id: str, type_: EventType) -> int:
    return sum(1 for event in events(store, run_id) if event.type is type_)


# ---- limits


def test_raised_limits_count_from_the_beginning(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 99)
    stopped = agent.run("Count.", limits=Limits(requests=9))
    assert (stopped.status, stopped.usage.requests) == (RunStatus.LIMIT, 9)
    again = agent.resume(stopped.run_id)
    assert (again.status, again.usage.requests) == (RunStatus.LIMIT, 9)
    further = agent.resume(stopped.run_id, limits=Limits(requests=12))
    assert (further.status, further.usage.requests) == (RunStatus.LIMIT, 12)
    assert count(store, stopped.run_id, EventType.MODEL_REPLIED) == 12
    verify(store, stopped.run_id)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (Limits(requests=2), Limits(requests=50)),
        (Limits(tool_calls=2), Limits(tool_calls=50)),
        (Limits(input_tokens=9_000), Limits(input_tokens=900_000)),
        (Limits(output_tokens=40), Limits(output_tokens=90_000)),
    ],
)
def test_a_run_that_a_limit_stopped_goes_on_with_a_larger_one(
    store: Store, tmp_path: Path, less: Limits, more: Limits
) -> None:
    agent = counting(store, tmp_path, 6)
    stopped = agent.run("Count.", limits=less)
    assert stopped.status is RunStatus.LIMIT
    result = agent.resume(stopped.run_id, limits=more)
    assert (result.status, result.output, result.usage.requests) == (RunStatus.COMPLETED, "6 steps", 7)
    assert result.usage.tool_calls == 6
    assert count(store, stopped.run_id, EventType.MODEL_REPLIED) == 7


def test_dollars_of_all_processes_count(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 99)
    agent.model = FunctionModel(lambda request: call(asked_before(request)), price_key=Price(input=1, output=1))
    stopped = agent.run("Count.", limits=Limits(usd="0.02"))
    assert stopped.status is RunStatus.LIMIT
    further = agent.resume(stopped.run_id, limits=Limits(usd="0.05"))
    assert further.status is RunStatus.LIMIT
    assert stopped.usage.usd is not None
    assert further.usage.usd is not None
    assert stopped.usage.usd < further.usage.usd <= 0.05


def test_time_of_all_processes_counts(store: Store, tmp_path: Path) -> None:
    async def forever(n: int) -> str:
        """Wait.

        Args:
            n: a number
        """
        await anyio.sleep_forever()
        return "never"

    agent = ToolCallingAgent(
        [tool(forever)], FunctionModel(lambda _: call(0, "forever")), store=store, limits=Limits(seconds=0.3)
    )
    stopped = agent.run("Wait.")
    assert (stopped.status, stopped.usage.seconds >= 0.3) == (RunStatus.LIMIT, True)
    again = agent.resume(stopped.run_id)
    assert again.status is RunStatus.LIMIT
    assert again.usage.seconds < stopped.usage.seconds + 0.3
    assert again.usage.seconds > stopped.usage.seconds * 0.9


def test_more_steps_after_a_last_word(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 8)
    stopped = agent.run("Count.", max_steps=5)
    assert (stopped.status, stopped.output) == (RunStatus.MAX_STEPS, "words after 5")
    before = count(store, stopped.run_id, EventType.MODEL_REPLIED)
    assert agent.resume(stopped.run_id, max_steps=5).output == "words after 5"
    assert count(store, stopped.run_id, EventType.MODEL_REPLIED) == before
    result = agent.resume(stopped.run_id, max_steps=20)
    assert (result.status, result.output, result.steps) == (RunStatus.COMPLETED, "8 steps", 9)


def test_what_a_run_was_given_when_it_went_on_holds_for_the_next_time_too(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 8)
    stopped = agent.run("Count.", max_steps=4, limits=Limits(requests=3))
    assert stopped.status is RunStatus.LIMIT
    further = agent.resume(stopped.run_id, max_steps=30, limits=Limits(requests=6, usd="2"))
    assert (further.status, further.usage.requests) == (RunStatus.LIMIT, 6)
    again = agent.resume(stopped.run_id)  # neither 3 requests nor 4 steps any more
    assert (again.status, again.usage.requests, again.steps) == (RunStatus.LIMIT, 6, further.steps)
    done = agent.resume(stopped.run_id, limits=Limits())
    assert (done.status, done.steps) == (RunStatus.COMPLETED, 9)


# ---- other ends


def test_a_run_whose_server_failed_goes_on(store: Store, tmp_path: Path) -> None:
    down = ModelError("no credit", kind="QuotaExhausted")
    agent = ToolCallingAgent(tools_in(tmp_path), ScriptedModel([call(0, "note"), call(1, "note"), down]), store=store)
    with pytest.raises(ModelError) as failed:
        agent.run("Count.")
    assert failed.value.run_id is not None
    agent.model = ScriptedModel([answer("here")])
    result = agent.resume(failed.value.run_id)
    assert (result.output, result.steps) == ("here", 3)
    assert len((tmp_path / "note").read_text().splitlines()) == 2
    roles = [message.role for message in messages_of_request(store, result.run_id, 4)]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]


def test_a_run_that_was_cancelled_goes_on(store: Store, tmp_path: Path) -> None:
    times: list[int] = []

    async def stop(n: int) -> str:
        """Cancel this run, the first time.

        Args:
            n: a number
        """
        times.append(n)
        if len(times) == 1:
            agent.cancel(current_context().run_id)
            await anyio.sleep_forever()
        return "stopped"

    script = [call(0, "note"), call(1, "stop"), answer("over")]
    agent = ToolCallingAgent([*tools_in(tmp_path), tool(stop)], ScriptedModel(script), store=store)
    cancelled = agent.run("Stop.")
    assert cancelled.status is RunStatus.CANCELLED
    result = agent.resume(cancelled.run_id)
    assert (result.output, result.usage.requests, times) == ("over", 3, [1, 1])
    assert len((tmp_path / "note").read_text().splitlines()) == 1


def test_a_run_that_is_done_gives_its_recorded_result(store: Store, tmp_path: Path) -> None:
    first = counting(store, tmp_path, 3).run("Count.")
    records = len(events(store, first.run_id))
    agent = ToolCallingAgent((), ScriptedModel([]), store=store)
    again = agent.resume(first.run_id)
    assert (again.output, again.status, again.steps) == (first.output, first.status, first.steps)
    assert again.usage.requests == first.usage.requests
    assert len(events(store, first.run_id)) == records


def test_the_result_of_a_typed_and_large_answer_comes_back(store: Store) -> None:
    big = {"rows": [[n, "x" * 50] for n in range(3_000)]}
    agent = CodeAgent((), ScriptedModel([code(f"final_answer({big!r})")]), store=store, output_type=dict[str, Any])
    first = agent.run("Make it.")
    assert first.output == big
    assert agent.resume(first.run_id).output == big


# ---- what is refused


def test_unknown_runs_and_other_agents_are_refused(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 2)
    with pytest.raises(RunNotFound):
        agent.resume("no-such-run")
    run_id = agent.run("Count.", limits=Limits(requests=1)).run_id
    with pytest.raises(ConfigurationError, match=r"'tools' agent, and this is a 'code' agent"):
        CodeAgent((), ScriptedModel([]), store=store).resume(run_id)


def test_a_part_of_another_run_is_refused(store: Store, tmp_path: Path) -> None:
    child = counting(store, tmp_path, 1, name="child", description="counts")
    script = [ModelReply(tool_calls=[ToolCall("c", "child", {"task": "count"})]), answer(1)]
    result = ToolCallingAgent((), ScriptedModel(script), managed_agents=[child], store=store).run("Ask.")
    (below,) = store.runs(parent=result.run_id)
    with pytest.raises(ConfigurationError, match=f"is a part of run '{result.run_id}'"):
        child.resume(below.run_id)


def test_a_run_under_way_is_refused(store: Store) -> None:
    async def main() -> None:
        refused: list[str] = []

        async def meddle(n: int) -> str:
            """Go on with this very run.

            Args:
                n: a number
            """
            (row,) = store.runs()
            with pytest.raises(ConfigurationError, match="is under way in this process"):
                await agent.aresume(row.run_id)
            refused.append(row.run_id)
            return "refused"

        agent = ToolCallingAgent([tool(meddle)], ScriptedModel([call(0, "meddle"), answer(1)]), store=store)
        result = await agent.arun("Meddle.")
        assert (refused, result.output) == ([result.run_id], 1)

    anyio.run(main)


def test_a_run_of_an_earlier_version_is_refused(store: Store, tmp_path: Path) -> None:
    async def write() -> str:
        journal = Journal.start(store, agent="agent")
        journal.record(EventType.RUN_STARTED, task="old", session=None, kind="tools", max_steps=3)
        await journal.commit()
        return journal.run_id

    with pytest.raises(StoreError, match="cannot be gone on with: its journal does not say all") as refused:
        counting(store, tmp_path, 1).resume(anyio.run(write))
    assert "earlier version" in str(refused.value)


def test_a_journal_that_has_grown_since_it_was_read_is_not_gone_on_with(store: Store, tmp_path: Path) -> None:
    run_id = counting(store, tmp_path, 2).run("Count.", limits=Limits(requests=1)).run_id
    last = store.last_event(run_id)
    assert last is not None
    with pytest.raises(StoreConflict, match="another process goes on"):
        Journal.go_on(store, run_id, seq=last.seq - 1)


# ---- what a run goes on with


def test_inputs_files_and_variables_are_there_again(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    first = [code("table = open('data.csv').read(); size = len(rows)"), ModelError("gone", kind="QuotaExhausted")]
    agent = CodeAgent((), ScriptedModel(first), store=store)
    with pytest.raises(ModelError) as failed:
        agent.run("Go.", inputs={"rows": [*range(30_000)]}, files=[tmp_path / "data.csv"])
    (tmp_path / "data.csv").unlink()
    agent.model = ScriptedModel([code("final_answer([table, size, rows[-1], open('data.csv').read()])")])
    result = agent.resume(str(failed.value.run_id))
    assert result.output == ["a,b\n1,2\n", 30_000, 29_999, "a,b\n1,2\n"]


def test_a_session_goes_on_with_a_run_that_goes_on(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 2)
    agent.run("First.", session="s")
    down = ModelError("gone", kind="QuotaExhausted")
    broken = ToolCallingAgent(tools_in(tmp_path), ScriptedModel([call(7), down]), store=store)
    with pytest.raises(ModelError) as failed:
        broken.run("Second.", session="s")
    broken.model = ScriptedModel([answer("second")])
    resumed = broken.resume(str(failed.value.run_id))
    assert (resumed.output, resumed.warnings) == ("second", ())
    seen: list[list[Message]] = []
    third = FunctionModel(lambda request: seen.append([*request.messages]) or answer("third"))
    ToolCallingAgent((), third, store=store).run("Third.", session="s")
    said = [message.content for message in seen[0]]
    assert [text for text in said if text in ("First.", "Second.", "Third.")] == ["First.", "Second.", "Third."]
    assert store.session_revision("s") == 3


def test_a_session_that_went_on_without_the_run_keeps_what_it_has(store: Store, tmp_path: Path) -> None:
    stopped = counting(store, tmp_path, 5).run("First.", session="s", limits=Limits(requests=2))
    counting(store, tmp_path, 1).run("Second.", session="s")
    before = store.load_session("s")
    result = counting(store, tmp_path, 5).resume(stopped.run_id, limits=Limits(requests=20))
    assert result.status is RunStatus.COMPLETED
    assert any("was gone on with by another process" in warning for warning in result.warnings)
    assert store.load_session("s") == before


def test_events_of_a_run_that_goes_on(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 4)
    stopped = agent.run("Count.", limits=Limits(requests=2))

    async def main() -> list[EventType]:
        return [event.type async for event in agent.aresume_stream(stopped.run_id, limits=Limits())]

    types = anyio.run(main)
    assert types[0] is EventType.RUN_RESUMED
    assert types[-1] is EventType.RUN_FINISHED
    assert types.count(EventType.MODEL_REPLIED) == 3
    assert anyio.run(main) == []


def test_requests_go_on_as_a_prompt_cache_knows_them(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 8)
    stopped = agent.run("Count.", limits=Limits(requests=4))
    agent.resume(stopped.run_id, limits=Limits())
    requests = [[*messages_of_request(store, stopped.run_id, number)] for number in range(1, 10)]
    for before, after in pairwise(requests):
        assert after[: len(before)] == before


def test_hooks_and_refusals_when_a_run_goes_on(store: Store, tmp_path: Path) -> None:
    class Doubling:
        def before_tool(self, call: ToolCall) -> dict[str, Any]:
            return {"n": call.arguments["n"] * 2}

    script: list[Any] = [call(3, "note"), ModelError("gone", kind="QuotaExhausted")]
    agent = ToolCallingAgent(tools_in(tmp_path), ScriptedModel(script), store=store, hooks=[Doubling()])
    with pytest.raises(ModelError) as failed:
        agent.run("Go.")
    agent.model = ScriptedModel([call(4, "note"), answer("done")])
    assert agent.resume(str(failed.value.run_id)).output == "done"
    assert [line.split()[0] for line in (tmp_path / "note").read_text().splitlines()] == ["6", "8"]


def test_what_an_unfinished_agent_gave_is_the_same_when_its_snippet_is_made_again(store: Store, tmp_path: Path) -> None:
    child = counting(store, tmp_path, 9, name="child", description="counts", limits=Limits(requests=1))
    script = [code("said = child(task='count')"), ModelError("gone", kind="QuotaExhausted")]
    agent = CodeAgent((), ScriptedModel(script), managed_agents=[child], store=store)
    with pytest.raises(ModelError) as failed:
        agent.run("Ask.")
    agent.model = ScriptedModel([code("final_answer(said)")])
    assert agent.resume(str(failed.value.run_id)).output.startswith("[not finished: limit: the limit of ")


def test_a_recorded_result_says_why_it_ended(store: Store, tmp_path: Path) -> None:
    agent = counting(store, tmp_path, 9)
    stopped = agent.run("Count.", max_steps=2)
    assert stopped.reason
    assert agent.resume(stopped.run_id).reason == stopped.reason
