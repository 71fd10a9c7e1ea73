"""Calls that wait for a person: from the question to the answer, and on from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest

from wherry import CodeAgent, GroupChat, Limits, Policy, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ApprovalError
from wherry.journal import Event, EventType, read_events, verify
from wherry.journal.process import this_process
from wherry.journal.retention import prune
from wherry.messages import ToolCall
from wherry.models import ModelReply
from wherry.policy.approvals import Decision, decide, find_approval, waiting
from wherry.store import Store
from wherry.tools import Tool, current_context

PAID: list[tuple[Any, ...]] = []


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    PAID.clear()


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def pay(amount: float, to: str = "ann") -> str:
    """Pay somebody.

    Args:
        amount: Euros.
        to: Who.
    """
    PAID.append((amount, to))
    return f"paid {amount:g} to {to}"


@tool
def look(what: str) -> str:
    """Look something up."""
    PAID.append(("looked", what))
    return f"{what} is fine"


def paying(**options: Any) -> Tool:
    chosen: dict[str, Any] = {"needs_approval": True, "side_effects": True, **options}
    return tool(pay, **chosen)


def calls(*items: tuple[str, dict[str, Any]]) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall(f"c{n}", name, arguments) for n, (name, arguments) in enumerate(items)])


def final(answer: Any) -> ModelReply:
    return ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": answer})])


def agent_of(replies: Sequence[Any], store: Store, **options: Any) -> ToolCallingAgent:
    tools = options.pop("tools", [paying(), look])
    return ToolCallingAgent(tools, ScriptedModel(list(replies)), store=store, **options)


def of_type(store: Store, run_id: str, type: EventType) -> list[Event]:
    return [event for event in read_events(store, run_id) if event.type is type]


def told(agent: Any, number: int = -1) -> list[str]:
    return [message.content for message in agent.model.requests[number].messages]


def test_a_call_waits_and_is_made_once_it_is_approved(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    result = agent.run("pay")
    assert result.status is RunStatus.WAITING
    assert result.output is None
    assert PAID == []
    [approval] = result.pending
    assert (approval.name, approval.arguments, approval.kind) == ("pay", {"amount": 5}, "approval")
    assert (approval.run_id, approval.root_run_id, approval.agent) == (result.run_id, result.run_id, "agent")
    assert "approval" in approval.why
    assert waiting(store) == [approval]
    after = agent.resume(result.run_id, approvals={approval.id: True})
    assert (after.status, after.output, after.run_id) == (RunStatus.COMPLETED, "done", result.run_id)
    assert PAID == [(5, "ann")]
    assert waiting(store) == []
    [asked] = of_type(store, result.run_id, EventType.APPROVAL_REQUESTED)
    [decided] = of_type(store, result.run_id, EventType.APPROVAL_DECIDED)
    assert asked.payload["id"] == decided.payload["id"] == approval.id
    assert decided.payload["approved"] is True
    assert verify(store, result.run_id) is None


def test_without_an_answer_it_goes_on_waiting(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    first = agent.run("pay")
    again = agent.resume(first.run_id)
    assert again.status is RunStatus.WAITING
    assert [one.id for one in again.pending] == [one.id for one in first.pending]
    assert len(of_type(store, first.run_id, EventType.APPROVAL_REQUESTED)) == 1
    assert PAID == []


def test_denied_with_a_reason_that_the_model_is_told(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("not done")], store)
    waits = agent.run("pay")
    decision = Decision(False, reason="too much for a Tuesday", by="bo")
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: decision})
    assert (result.status, result.output) == (RunStatus.COMPLETED, "not done")
    assert PAID == []
    assert any("denied by a person: too much for a Tuesday" in text for text in told(agent))
    [decided] = of_type(store, waits.run_id, EventType.APPROVAL_DECIDED)
    assert (decided.payload["approved"], decided.payload["by"]) == (False, "bo")


def test_several_wait_at_once_and_are_decided_one_by_one(store: Store) -> None:
    many = calls(
        ("pay", {"amount": 1}), ("look", {"what": "x"}), ("pay", {"amount": 2}), ("pay", {"amount": 3, "to": "cy"})
    )
    agent = agent_of([many, final("done")], store)
    waits = agent.run("pay")
    assert PAID == [("looked", "x")]
    by_amount = {one.arguments["amount"]: one.id for one in waits.pending}
    assert sorted(by_amount) == [1, 2, 3]
    decide(store, by_amount[1], True)
    half = agent.resume(waits.run_id, approvals={by_amount[2]: Decision(False, reason="no")})
    assert half.status is RunStatus.WAITING
    assert [one.id for one in half.pending] == [by_amount[3]]
    assert PAID == [("looked", "x"), (1, "ann")]
    result = agent.resume(waits.run_id, approvals={by_amount[3]: True})
    assert result.output == "done"
    assert PAID == [("looked", "x"), (1, "ann"), (3, "cy")]
    assert told(agent)[-4:] == ["paid 1 to ann", "x is fine", "Error: denied by a person: no", "paid 3 to cy"]


def test_a_decision_stands(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    [approval] = agent.run("pay").pending
    decide(store, approval.id, Decision(False, by="ann"))
    with pytest.raises(ApprovalError, match="denied already by ann"):
        decide(store, approval.id, True)
    with pytest.raises(ApprovalError, match="denied already"):
        agent.resume(approval.run_id, approvals={approval.id: True})
    with pytest.raises(ApprovalError, match="no approval"):
        decide(store, "ap-none", True)
    assert PAID == []


def test_approved_with_other_arguments(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 500})), final("done")], store)
    waits = agent.run("pay")
    agent.resume(waits.run_id, approvals={waits.pending[0].id: Decision(True, arguments={"amount": 50, "to": "di"})})
    assert PAID == [(50, "di")]
    [returned] = of_type(store, waits.run_id, EventType.TOOL_RETURNED)
    assert returned.payload["arguments"] == {"amount": 50, "to": "di"}


@pytest.mark.parametrize(
    "arguments", [{"amount": "much"}, {}, {"amount": 5, "when": "now"}, {"amount": 5, "to": ["x"]}]
)
def test_arguments_that_do_not_fit_are_refused_when_they_are_given(store: Store, arguments: dict[str, Any]) -> None:
    agent = agent_of([calls(("pay", {"amount": 500})), final("done")], store)
    [approval] = agent.run("pay").pending
    with pytest.raises(ApprovalError, match="cannot be approved with these arguments"):
        decide(store, approval.id, Decision(True, arguments=arguments))
    assert find_approval(store, approval.id).decision is None


def test_other_arguments_keep_to_the_policy_too(store: Store) -> None:
    policy = Policy(approve=["pay"], deny=[("pay", lambda a: a["to"] == "evil")])
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store, tools=[tool(pay)], policy=policy)
    waits = agent.run("pay")
    decision = Decision(True, arguments={"amount": 5, "to": "evil"})
    assert agent.resume(waits.run_id, approvals={waits.pending[0].id: decision}).status is RunStatus.COMPLETED
    assert PAID == []
    assert any("does not allow `pay`" in text for text in told(agent))


def test_a_call_that_cannot_be_made_asks_nobody(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": "much"})), final("done")], store)
    assert agent.run("pay").status is RunStatus.COMPLETED
    assert any("amount" in text for text in told(agent))
    assert waiting(store) == []


def test_the_policy_decides_by_arguments(store: Store) -> None:
    policy = Policy(approve=[("p*", lambda a: a["amount"] > 100)], deny=["look"])
    reply = calls(("pay", {"amount": 100}), ("pay", {"amount": 101}), ("look", {"what": "x"}))
    agent = agent_of([reply, final("done")], store, tools=[tool(pay), look], policy=policy)
    waits = agent.run("pay")
    assert [one.arguments for one in waits.pending] == [{"amount": 101}]
    assert PAID == [(100, "ann")]
    agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert PAID == [(100, "ann"), (101, "ann")]
    assert any("the policy does not allow `look`" in text for text in told(agent))


def test_a_predicate_of_the_tool(store: Store) -> None:
    def others(arguments: Mapping[str, Any]) -> bool:
        return arguments["to"] != "ann"

    asks = paying(needs_approval=others)
    agent = agent_of([calls(("pay", {"amount": 1}), ("pay", {"amount": 2, "to": "x"})), final(1)], store, tools=[asks])
    waits = agent.run("pay")
    assert PAID == [(1, "ann")]
    assert [one.arguments["to"] for one in waits.pending] == ["x"]


def test_a_tool_that_changed_after_the_approval_needs_a_new_one(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    waits = agent.run("pay")
    decide(store, waits.pending[0].id, True)

    def other(amount: float, to: str = "evil") -> str:
        """Pay somebody."""
        return pay(amount, to)

    agent.tools["pay"] = tool(other, name="pay", needs_approval=True)
    again = agent.resume(waits.run_id)
    assert again.status is RunStatus.WAITING
    assert PAID == []
    assert again.pending[0].id != waits.pending[0].id
    agent.resume(waits.run_id, approvals={again.pending[0].id: True})
    assert PAID == [(5, "evil")]


def test_arguments_that_hold_a_secret_are_refused(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5, "to": "sk-abcdefgh12345678abcdefgh"})), final("done")], store)
    assert agent.run("pay").status is RunStatus.COMPLETED
    assert any("hold a secret" in text for text in told(agent))
    assert PAID == []


def code(*lines: str) -> str:
    text = "\n".join(lines)
    return f"```python\n{text}\n```"


def coder(replies: Sequence[Any], store: Store, **options: Any) -> CodeAgent:
    return CodeAgent(options.pop("tools", [paying(), look]), ScriptedModel(list(replies)), store=store, **options)


def test_inside_code_the_snippet_goes_on_where_it_waited(store: Store) -> None:
    snippet = code(
        "seen = look('before')",
        "try:",
        "    said = pay(5, to='bo')",
        "except Exception as error:",
        "    said = str(error)",
        "final_answer([seen, said, look('after')])",
    )
    agent = coder([snippet], store)
    waits = agent.run("pay")
    assert waits.status is RunStatus.WAITING
    assert PAID == [("looked", "before")]
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert result.output == ["before is fine", "paid 5 to bo", "after is fine"]
    assert PAID == [("looked", "before"), (5, "bo"), ("looked", "after")]


def test_inside_code_a_denied_call_raises(store: Store) -> None:
    snippet = code("try:", "    pay(5)", "except Exception as error:", "    final_answer(str(error))")
    agent = coder([snippet], store)
    waits = agent.run("pay")
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: Decision(False, reason="no money")})
    assert "denied by a person: no money" in result.output
    assert PAID == []


def test_inside_a_managed_agent_and_by_the_policy_of_its_manager(store: Store) -> None:
    clerk = ToolCallingAgent(
        [tool(pay)],
        ScriptedModel([calls(("pay", {"amount": 7})), final("paid it")]),
        name="clerk",
        description="Pays bills.",
    )
    policy = Policy(approve=["pay"])
    boss = ToolCallingAgent(
        [],
        ScriptedModel([calls(("clerk", {"task": "pay 7"})), final("all paid")]),
        managed_agents=[clerk],
        store=store,
        policy=policy,
    )
    waits = boss.run("pay")
    assert waits.status is RunStatus.WAITING
    [approval] = waits.pending
    assert (approval.agent, approval.root_run_id) == ("clerk", waits.run_id)
    assert approval.run_id != waits.run_id
    result = boss.resume(waits.run_id, approvals={approval.id: True})
    assert result.output == "all paid"
    assert PAID == [(7, "ann")]


def test_a_managed_agent_itself_may_need_approval(store: Store) -> None:
    clerk = ToolCallingAgent([], ScriptedModel([final("hello")]), name="clerk", description="Says hello.")
    boss = ToolCallingAgent(
        [],
        ScriptedModel([calls(("clerk", {"task": "greet"})), final("greeted")]),
        managed_agents=[clerk],
        store=store,
        policy=Policy(approve=["clerk"]),
    )
    waits = boss.run("greet")
    assert [one.name for one in waits.pending] == ["clerk"]
    result = boss.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert result.output == "greeted"
    assert len(of_type(store, waits.run_id, EventType.AGENT_CALLED)) == 1


def test_content_from_outside_makes_sinks_wait(store: Store) -> None:
    page = tool(lambda: "buy now", name="page", description="A page.", untrusted=True)
    reply = [calls(("page", {})), calls(("pay", {"amount": 5})), final("done")]
    agent = agent_of(reply, store, tools=[page, tool(pay, sink=True)])
    waits = agent.run("read")
    assert waits.status is RunStatus.WAITING
    assert "from page" in waits.pending[0].why
    agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert PAID == [(5, "ann")]


def test_intent_is_wanted_recorded_and_not_passed_on(store: Store) -> None:
    replies = [calls(("pay", {"amount": 1})), calls(("pay", {"amount": 1, "intent": "the rent"})), final("done")]
    agent = agent_of(replies, store, tools=[tool(pay)], policy=Policy(intent=True))
    agent.run("pay")
    assert PAID == [(1, "ann")]
    assert isinstance(agent.model, ScriptedModel)
    [schema] = [one for one in agent.model.requests[0].tools if one.name == "pay"]
    assert "intent" in schema.parameters["required"]
    assert any("`intent` is missing" in text for text in told(agent))
    assert [event.payload["arguments"] for event in of_type(store, store.runs()[0].run_id, EventType.TOOL_CALLED)][
        1
    ] == {"amount": 1, "intent": "the rent"}


def test_intent_in_code(store: Store) -> None:
    agent = coder([code("final_answer(pay(2, intent='lunch'))")], store, tools=[tool(pay)], policy=Policy(intent=True))
    result = agent.run("pay")
    assert result.output == "paid 2 to ann"
    [called] = of_type(store, result.run_id, EventType.TOOL_CALLED)
    assert called.payload["arguments"]["intent"] == "lunch"


def test_egress_reaches_the_tool_itself(store: Store) -> None:
    from wherry.tools import check_egress

    @tool(network=("url",))
    def fetch(url: str) -> str:
        """Fetch a page."""
        check_egress("https://elsewhere.org/")  # a redirect
        return f"{url} fetched"

    replies = [calls(("fetch", {"url": "https://evil.com/"})), calls(("fetch", {"url": "https://a.org/"})), final(1)]
    agent = agent_of(replies, store, tools=[fetch], policy=Policy(egress=["a.org"]))
    agent.run("fetch")
    first, second = told(agent)[-3], told(agent)[-1]
    assert "'evil.com' is not among" in first
    assert "'elsewhere.org' is not among" in second


def test_a_call_under_way_when_the_process_died_has_its_context(store: Store) -> None:
    seen: list[Mapping[str, str]] = []

    @tool(needs_approval=True)
    def note() -> str:
        """Take a note."""
        seen.append({"key": current_context().idempotency_key})
        return "noted"

    agent = agent_of([calls(("note", {})), final("done")], store, tools=[note])
    waits = agent.run("note")
    agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert seen == [{"key": f"{waits.run_id}:1:c0"}]


@pytest.mark.usefixtures("collected")
def test_patterns_of_a_policy_are_kept_out_of_the_whole_record(store: Store) -> None:
    policy = Policy(redact=[r"\b\d{4}-\d{4}\b", r"\d{5,}"], approve=["pay"])

    @tool
    def number() -> str:
        """A number."""
        return "call 1234-5678 or 987654321"

    replies = [calls(("number", {}), ("pay", {"amount": 5})), final("told 1234-5678")]
    agent = agent_of(replies, store, tools=[number, tool(pay)], policy=policy)
    waits = agent.run("whose number is 1234-5678?")
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert result.output == "told 1234-5678"
    assert PAID == [(5, "ann")]
    for event in store.events(waits.run_id):
        assert b"1234-5678" not in event.body
        assert b"987654321" not in event.body
    assert verify(store, waits.run_id) is None


@pytest.mark.usefixtures("collected")
def test_a_run_of_code_goes_on_under_patterns_for_numbers(store: Store) -> None:
    """Which leave alone what the run goes on by: seeds, digests, processes."""
    policy = Policy(redact=[r"\d{3,}"], approve=["pay"])
    snippet = "import random\ndrawn = random.random()\npay(5)\nfinal_answer(drawn)"
    agent = CodeAgent([tool(pay)], ScriptedModel([f"```python\n{snippet}\n```"] * 2), store=store, policy=policy)
    waits = agent.run("pay")
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert (result.status, PAID) == (RunStatus.COMPLETED, [(5, "ann")])
    other = agent.run("pay")
    assert of_type(store, other.run_id, EventType.TOOLS_CHANGED) == []
    assert of_type(store, other.run_id, EventType.PROMPT_CHANGED) == []
    begun = [event.payload["process"] for event in of_type(store, waits.run_id, EventType.RUN_STARTED)]
    assert begun == [this_process()]


def test_intent_is_wanted_of_managed_agents_too(store: Store) -> None:
    clerk = ToolCallingAgent(
        [tool(pay)],
        ScriptedModel([calls(("pay", {"amount": 7, "intent": "the bill"})), final("paid it")]),
        name="clerk",
        description="Pays bills.",
    )
    boss = ToolCallingAgent(
        [],
        ScriptedModel([calls(("clerk", {"task": "pay 7", "intent": "to be rid of it"})), final("all paid")]),
        managed_agents=[clerk],
        store=store,
        policy=Policy(intent=True),
    )
    result = boss.run("pay")
    assert result.output == "all paid"
    assert PAID == [(7, "ann")]
    [called] = of_type(store, result.run_id, EventType.AGENT_CALLED)
    assert called.payload["intent"] == "to be rid of it"


def test_a_call_that_waits_is_counted_once(store: Store) -> None:
    agent = agent_of(
        [calls(("pay", {"amount": 1}), ("look", {"what": "x"})), final("done")], store, limits=Limits(tool_calls=2)
    )
    waits = agent.run("pay")
    assert waits.usage.tool_calls == 1
    for _ in range(2):
        waits = agent.resume(waits.run_id)
        assert waits.status is RunStatus.WAITING
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert (result.status, result.usage.tool_calls) == (RunStatus.COMPLETED, 2)


def test_a_stream_ends_where_it_waits_and_can_be_gone_on_with(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 1})), final("done")], store)

    async def both() -> tuple[list[str], list[str]]:
        first = [event async for event in agent.astream("pay")]
        decide(store, waiting(store)[0].id, True)
        second = [event async for event in agent.aresume_stream(first[0].run_id)]
        return [event.type.value for event in first], [event.type.value for event in second]

    first, second = anyio.run(both)
    assert first[-2:] == ["approval.requested", "run.finished"]
    assert second[0] == "run.resumed"
    assert second.index("approval.decided") < second.index("tool.returned")


def test_a_group_waits_for_what_its_policy_asks_for(store: Store) -> None:
    ann = ToolCallingAgent(
        [tool(pay)], ScriptedModel([calls(("pay", {"amount": 3})), final("I paid.")]), name="ann", description="Pays."
    )
    bo = ToolCallingAgent([], ScriptedModel([final("Well done.")]), name="bo", description="Praises.")
    group = GroupChat([ann, bo], speaker="round_robin", max_rounds=2, store=store, policy=Policy(approve=["pay"]))
    waits = group.run("Pay the bill.")
    assert waits.status is RunStatus.WAITING
    assert PAID == []
    result = group.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert result.output == "Well done."
    assert PAID == [(3, "ann")]


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (None, "is None"),
        (1, "is 1"),
        ("no", "is 'no'"),
        (Decision("no"), "approved='no'"),  # pyright: ignore[reportArgumentType]
        (Decision(False, reason=5), "reason=5"),  # pyright: ignore[reportArgumentType]
        (Decision(True, by=b"x"), "by=b'x'"),  # pyright: ignore[reportArgumentType]
        (Decision(True, arguments={"amount": float("nan")}), "NaN"),
        (Decision(True, arguments={"amount": 1, "to": [{"x": (float("inf"),)}]}), "NaN or infinity"),
    ],
)
def test_what_is_no_decision_is_refused_and_the_call_goes_on_waiting(store: Store, decision: Any, said: str) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    result = agent.run("pay")
    [approval] = result.pending
    with pytest.raises(ApprovalError, match=said):
        decide(store, approval.id, decision)
    with pytest.raises(ApprovalError, match=said):
        agent.resume(result.run_id, approvals={approval.id: decision})
    assert waiting(store) == [approval]


@pytest.mark.parametrize("reason", ["ñ 🦊 \u202e \x1b[31m \x00 \ud800", "x" * 300_000])
def test_any_text_may_be_a_reason(store: Store, reason: str) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    result = agent.run("pay")
    decided = decide(store, result.pending[0].id, Decision(False, reason=reason))
    assert decided.decision is not None
    assert decided.decision.reason == reason
    assert agent.resume(result.run_id).status is RunStatus.COMPLETED
    [event] = of_type(store, result.run_id, EventType.APPROVAL_DECIDED)
    assert event.payload["reason"] == reason
    assert verify(store, result.run_id) is None


def test_a_number_that_is_none_is_shown_as_what_it_is(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": float("nan")})), final("done")], store)
    result = agent.run("pay")
    assert result.pending[0].arguments == {"amount": "NaN"}
    no = Decision(False, reason="no amount")
    assert agent.resume(result.run_id, approvals={result.pending[0].id: no}).status is RunStatus.COMPLETED
    assert PAID == []


def test_what_is_over_cannot_be_decided(store: Store) -> None:
    agent = agent_of([calls(("pay", {"amount": 5})), final("done")], store)
    result = agent.run("pay")
    [approval] = result.pending
    agent.resume(result.run_id, approvals={approval.id: True})
    with pytest.raises(ApprovalError, match="approved already"):
        decide(store, approval.id, False)
    assert prune(store, before=1e12).runs == [result.run_id]
    with pytest.raises(ApprovalError, match="there is no approval"):
        decide(store, approval.id, True)
