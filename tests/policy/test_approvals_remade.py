"""Calls that are made once more, or later than they were asked for: with what, and whether they may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from wherry import CodeAgent, Policy, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ApprovalError
from wherry.journal import verify
from wherry.messages import ToolCall
from wherry.models import ModelReply
from wherry.policy.approvals import Decision
from wherry.store import Store
from wherry.tools import Tool

pytestmark = pytest.mark.anyio
SECRET = "sk-proj-abcdefghijklmnop1234567890"
FINAL = ModelReply(tool_calls=[ToolCall("end", "final_answer", {"answer": "done"})])


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


class Bank:
    """Whose payments are cancelled while they are under way, as often as it is told to."""

    def __init__(self, *, cancels: int = 0) -> None:
        self.paid: list[tuple[float, str]] = []
        self.cancels = cancels
        self.scope: anyio.CancelScope | None = None

    @property
    def tool(self) -> Tool:
        async def pay(amount: float, to: str = "ann") -> str:
            """Pay somebody."""
            self.paid.append((amount, to))
            if self.cancels and self.scope is not None:
                self.cancels -= 1
                self.scope.cancel()
                await anyio.lowlevel.checkpoint()
            return f"paid {amount:g} to {to}"

        return tool(pay, side_effects=True)

    def plain(self, amount: float, to: str = "plain") -> str:
        self.paid.append((amount, to))
        return "paid"

    def agent(self, store: Store, policy: Policy) -> ToolCallingAgent:
        model = ScriptedModel([ModelReply(tool_calls=[ToolCall("c", "pay", {"amount": 900})]), FINAL])
        return ToolCallingAgent([self.tool], model, store=store, policy=policy)

    async def interrupted(self, agent: ToolCallingAgent, run_id: str = "", approvals: Any = None) -> str:
        """The id of a run whose call is cancelled while it is under way."""
        with anyio.CancelScope() as self.scope:
            await (agent.aresume(run_id, approvals=approvals) if run_id else agent.arun("pay"))
        assert self.scope.cancelled_caught
        return agent.store.runs()[0].run_id


async def test_what_was_approved_with_other_arguments_is_made_again_with_those(store: Store) -> None:
    bank = Bank(cancels=2)
    agent = bank.agent(store, Policy(approve=["pay"]))
    waits = await agent.arun("pay")
    less = Decision(True, arguments={"amount": 90, "to": "bo"})
    await bank.interrupted(agent, waits.run_id, {waits.pending[0].id: less})

    unknown = (await agent.aresume(waits.run_id)).pending[0]
    assert (unknown.kind, unknown.arguments) == ("unknown", {"amount": 90, "to": "bo"})
    await bank.interrupted(agent, waits.run_id, {unknown.id: True})

    unknown = (await agent.aresume(waits.run_id)).pending[0]
    assert unknown.arguments == {"amount": 90, "to": "bo"}
    result = await agent.aresume(waits.run_id, approvals={unknown.id: True})
    assert result.status is RunStatus.COMPLETED
    assert bank.paid == [(90, "bo")] * 3
    verify(store, waits.run_id)


async def test_the_last_word_about_its_arguments_counts(store: Store) -> None:
    bank = Bank(cancels=2)
    agent = bank.agent(store, Policy())
    run_id = await bank.interrupted(agent)
    unknown = (await agent.aresume(run_id)).pending[0]
    await bank.interrupted(agent, run_id, {unknown.id: Decision(True, arguments={"amount": 800})})
    unknown = (await agent.aresume(run_id)).pending[0]
    assert unknown.arguments == {"amount": 800}
    await agent.aresume(run_id, approvals={unknown.id: Decision(True, arguments={"amount": 700})})
    assert [amount for amount, _ in bank.paid] == [900, 800, 700]


async def test_what_is_denied_is_not_made_again_whoever_approves(store: Store) -> None:
    bank = Bank(cancels=1)
    run_id = await bank.interrupted(bank.agent(store, Policy()))
    agent = ToolCallingAgent([bank.tool], ScriptedModel([FINAL]), store=store, policy=Policy(deny=["pay"]))
    unknown = (await agent.aresume(run_id)).pending[0]
    result = await agent.aresume(run_id, approvals={unknown.id: True})
    assert result.status is RunStatus.COMPLETED
    assert bank.paid == [(900, "ann")]
    assert isinstance(agent.model, ScriptedModel)
    said = agent.model.requests[-1].messages[-1].content
    assert "nobody knows whether the call took effect, and it is not made again" in said
    assert "the policy does not allow `pay`" in said


async def test_nor_with_other_arguments_that_are_denied(store: Store) -> None:
    bank = Bank(cancels=1)
    agent = bank.agent(store, Policy(deny=[("pay", lambda arguments: arguments["amount"] > 1000)]))
    run_id = await bank.interrupted(agent)
    unknown = (await agent.aresume(run_id)).pending[0]
    result = await agent.aresume(run_id, approvals={unknown.id: Decision(True, arguments={"amount": 5000})})
    assert result.status is RunStatus.COMPLETED
    assert bank.paid == [(900, "ann")]


async def changed_bank(store: Store, policy: Policy) -> tuple[Bank, ToolCallingAgent, str]:
    """A payment that nobody knows the end of, and an agent whose tool is another one now."""
    bank = Bank(cancels=1)
    run_id = await bank.interrupted(bank.agent(store, policy))
    other = tool(bank.plain, name="pay", description="Pay at once.", side_effects=True)
    return bank, ToolCallingAgent([other], ScriptedModel([FINAL]), store=store, policy=policy), run_id


async def test_what_is_made_again_by_a_tool_that_changed_is_asked_for_by_that_too(store: Store) -> None:
    bank, agent, run_id = await changed_bank(store, Policy(new_tools="approve"))
    unknown = (await agent.aresume(run_id)).pending[0]
    assert unknown.kind == "unknown"
    less = Decision(True, arguments={"amount": 90})
    changed = (await agent.aresume(run_id, approvals={unknown.id: less})).pending[0]
    assert (changed.kind, changed.arguments, bank.paid) == ("changed_tool", {"amount": 90}, [(900, "ann")])
    assert [one.id for one in (await agent.aresume(run_id)).pending] == [changed.id]
    result = await agent.aresume(run_id, approvals={changed.id: True})
    assert result.status is RunStatus.COMPLETED
    assert bank.paid == [(900, "ann"), (90, "plain")]
    verify(store, run_id)


@pytest.mark.parametrize("new_tools", ["approve", "deny"])
async def test_nor_is_it_made_again_where_the_changed_tool_is_denied(store: Store, new_tools: Any) -> None:
    bank, agent, run_id = await changed_bank(store, Policy(new_tools=new_tools))
    waits = await agent.aresume(run_id)
    waits = await agent.aresume(run_id, approvals={waits.pending[0].id: True})
    if new_tools == "approve":
        no = Decision(False, reason="not that one")
        waits = await agent.aresume(run_id, approvals={waits.pending[0].id: no})
    assert waits.status is RunStatus.COMPLETED
    assert bank.paid == [(900, "ann")]
    assert isinstance(agent.model, ScriptedModel)
    said = agent.model.requests[-1].messages[-1].content
    assert "nobody knows whether the call took effect, and it is not made again: the tool `pay` is another" in said


async def test_a_question_about_a_changed_tool_that_falls_away_approves_nothing(store: Store) -> None:
    policy = Policy(new_tools="approve")
    _, agent, run_id = await changed_bank(store, policy)
    waits = await agent.aresume(run_id)
    waits = await agent.aresume(run_id, approvals={waits.pending[0].id: True})
    assert waits.pending[0].kind == "changed_tool"
    agent.policy = Policy()
    assert (await agent.aresume(run_id)).status is RunStatus.COMPLETED
    assert store.approvals.find(pending=True) == []
    model = ScriptedModel([ModelReply(tool_calls=[ToolCall("c", "pay", {"amount": 1})]), FINAL])
    later = await ToolCallingAgent(list(agent.tools.values()), model, store=store, policy=policy).arun("pay")
    assert [one.kind for one in later.pending] == ["changed_tool"]


async def test_a_result_settles_what_is_denied_now(store: Store) -> None:
    bank = Bank(cancels=1)
    run_id = await bank.interrupted(bank.agent(store, Policy()))
    agent = ToolCallingAgent([bank.tool], ScriptedModel([FINAL]), store=store, policy=Policy(deny=["pay"]))
    unknown = (await agent.aresume(run_id)).pending[0]
    await agent.aresume(run_id, approvals={unknown.id: Decision(True, result="it went through")})
    assert isinstance(agent.model, ScriptedModel)
    assert agent.model.requests[-1].messages[-1].content == "it went through"
    assert bank.paid == [(900, "ann")]


def test_other_arguments_that_hold_a_secret_are_refused(store: Store) -> None:
    bank = Bank()
    agent = bank.agent(store, Policy(approve=["pay"]))
    waits = agent.run("pay")
    secret = Decision(True, arguments={"amount": 1, "to": SECRET})
    with pytest.raises(ApprovalError, match="hold a secret"):
        agent.resume(waits.run_id, approvals={waits.pending[0].id: secret})
    assert bank.paid == []
    assert agent.resume(waits.run_id, approvals={waits.pending[0].id: True}).status is RunStatus.COMPLETED


@pytest.mark.parametrize("said", [{}, {"intent": "half of it"}])
def test_other_arguments_need_not_say_what_they_are_for(store: Store, said: dict[str, str]) -> None:
    bank = Bank()
    call = ToolCall("c", "pay", {"amount": 900, "intent": "the rent"})
    model = ScriptedModel([ModelReply(tool_calls=[call]), FINAL])
    agent = ToolCallingAgent([bank.tool], model, store=store, policy=Policy(approve=["pay"], intent=True))
    waits = agent.run("pay")
    result = agent.resume(
        waits.run_id, approvals={waits.pending[0].id: Decision(True, arguments={"amount": 450, **said})}
    )
    assert result.status is RunStatus.COMPLETED
    assert bank.paid == [(450, "ann")]


@pytest.mark.parametrize(
    ("before", "after"), [("01", "10"), ("012", "201"), ("021", "120"), ("10", "01"), ("01", "21")]
)
def test_calls_that_come_in_another_order_get_what_is_theirs(
    store: Store, tmp_path: Path, before: str, after: str
) -> None:
    """As those of threads may; here a file says the order, which the snippet reads."""
    bank, order = Bank(), tmp_path / "order"
    order.write_text(before)
    snippet = f"said = {{n: pay(int(n)) for n in open({str(order)!r}).read()}}\nfinal_answer(said)"
    agent = CodeAgent(
        [bank.tool],
        ScriptedModel([f"```python\n{snippet}\n```"]),
        store=store,
        sandbox="unsafe",
        policy=Policy(approve=[("pay", lambda arguments: arguments["amount"] == 1)]),
    )
    result = agent.run("pay")
    asked = 0
    order.write_text(after)
    while result.pending:
        asked += len(result.pending)
        assert (1, "ann") not in bank.paid
        result = agent.resume(result.run_id, approvals={one.id: True for one in result.pending})
    assert result.output == {n: f"paid {n} to ann" for n in after}
    assert len(bank.paid) == len(set(bank.paid)) == len({*before[: before.index("1")], *after})
    assert asked == 1
    verify(store, result.run_id)


def test_a_call_never_gets_what_another_tool_gave(store: Store, tmp_path: Path) -> None:
    bank, order = Bank(), tmp_path / "order"

    @tool
    def look(what: str) -> str:
        """Look something up."""
        return f"{what} is fine"

    order.write_text("look")
    snippet = f"said = look('a') if open({str(order)!r}).read() == 'look' else ''\nfinal_answer([said, pay(1)])"
    model = ScriptedModel([f"```python\n{snippet}\n```"])
    agent = CodeAgent([bank.tool, look], model, store=store, sandbox="unsafe", policy=Policy(approve=["pay"]))
    waits = agent.run("pay")
    order.write_text("not")
    result = agent.resume(waits.run_id, approvals={waits.pending[0].id: True})
    assert result.output == ["", "paid 1 to ann"]
    assert bank.paid == [(1, "ann")]


def test_what_a_snippet_read_of_a_clock_is_approved_as_it_was_asked_for(store: Store) -> None:
    notes: list[str] = []

    @tool(needs_approval=True, side_effects=True)
    def note(text: str) -> str:
        """Take a note."""
        notes.append(text)
        return text

    snippet = "\n".join(
        [
            "import datetime, time",
            "first = note(datetime.datetime.now().isoformat())",
            "time.sleep(0.001)",
            "second = note(str(time.time_ns()))",
            "third = note(str(time.monotonic_ns()))",
            "final_answer([first, second, third])",
        ]
    )
    agent = CodeAgent([note], ScriptedModel([f"```python\n{snippet}\n```"]), store=store)
    result = agent.run("note")
    asked: list[str] = []
    for _ in range(3):
        assert result.status is RunStatus.WAITING
        again = agent.resume(result.run_id).pending[0]
        assert again.id == result.pending[0].id  # the very same call, however often it is looked at
        asked.append(again.arguments["text"])
        result = agent.resume(result.run_id, approvals={again.id: True})
    assert result.output == notes == asked
    verify(store, result.run_id)
