"""Calls whose arguments held a secret, in runs that were interrupted: never made with the mask in its place."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from wherry import CodeAgent, RunStatus, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.agents.agent import Agent
from wherry.journal import verify
from wherry.messages import ToolCall
from wherry.models import ModelReply
from wherry.policy.approvals import Decision, waiting
from wherry.store import Store
from wherry.tools import Tool

pytestmark = pytest.mark.anyio
SECRET = "sk-proj-abcdefghijklmnopqrstx7yz"  # with no number that patterns of other tests look for
LITERAL = f'```python\nfinal_answer(open_door(key="{SECRET}"))\n```'
COMPUTED = '```python\nfinal_answer(open_door(key="sk-proj-abcdefgh" + "ijklmnopqrstx7yz"))\n```'
READ = "```python\nkey = read_key()\nopen_door(key=key)\nfinal_answer(1)\n```"


class Door:
    """Which is opened with a key, and the run cancelled while it is, as often as it is told to."""

    def __init__(self, *, cancels: int = 1, **options: Any) -> None:
        self.keys: list[str] = []
        self.cancels = cancels
        self.options = options
        self.scope = anyio.CancelScope()

    @property
    def tools(self) -> list[Tool]:
        async def open_door(key: str) -> str:
            """Open the door."""
            self.keys.append(key)
            if self.cancels:
                self.cancels -= 1
                self.scope.cancel()
                await anyio.lowlevel.checkpoint()
            return "open"

        @tool
        def read_key() -> str:
            """Read the key."""
            return SECRET

        return [tool(open_door, **self.options), read_key]

    def agent(self, kind: str, store: Store) -> Agent:
        if kind == "tools":
            call = ModelReply(tool_calls=[ToolCall("c", "open_door", {"key": SECRET})])
            return ToolCallingAgent(self.tools, ScriptedModel([call]), store=store)
        return CodeAgent(self.tools, ScriptedModel([kind]), store=store)

    async def interrupted(self, agent: Agent) -> str:
        with self.scope:
            await agent.arun("open the door")
        assert self.scope.cancelled_caught
        return agent.store.runs()[0].run_id


@pytest.fixture
def store() -> Store:
    return open_store("memory://")


def again(door: Door, kind: str, store: Store) -> Agent:
    """An agent that goes on, in another process, with what is on record alone."""
    agent = door.agent(kind, store)
    agent.model = ScriptedModel(["done" if kind == "tools" else "```python\nfinal_answer('done')\n```"])
    return agent


@pytest.mark.parametrize("options", [{}, {"side_effects": True}, {"side_effects": True, "idempotent": True}])
@pytest.mark.parametrize("kind", ["tools", LITERAL, READ])
async def test_a_call_from_the_records_is_not_made_with_a_mask(store: Store, kind: str, options: Any) -> None:
    door = Door(**options)
    run_id = await door.interrupted(door.agent(kind, store))
    agent = again(door, kind, store)
    for waits in (await agent.aresume(run_id), await agent.aresume(run_id)):
        assert waits.status is RunStatus.WAITING
        assert [(one.kind, one.arguments) for one in waits.pending] == [("unknown", {"key": "…x7yz"})]
        assert "held a secret" in waits.pending[0].why
    [unknown] = waiting(store)
    done = await agent.aresume(run_id, approvals={unknown.id: True})
    assert done.status is RunStatus.COMPLETED
    assert door.keys == [SECRET]
    assert verify(store, run_id) is None
    assert waiting(store) == []


@pytest.mark.parametrize("kind", ["tools", LITERAL])
async def test_a_person_may_settle_it_or_give_other_arguments(store: Store, kind: str) -> None:
    for decision, keys in (
        (Decision(True, result="open"), []),
        (Decision(True, arguments={"key": "spare"}), ["spare"]),
    ):
        door = Door(side_effects=True)
        run_id = await door.interrupted(door.agent(kind, store))
        agent = again(door, kind, store)
        waits = await agent.aresume(run_id)
        done = await agent.aresume(run_id, approvals={waits.pending[0].id: decision})
        assert done.status is RunStatus.COMPLETED
        assert door.keys == [SECRET, *keys]


@pytest.mark.parametrize("options", [{}, {"side_effects": True}])
async def test_what_a_snippet_computes_anew_is_made_with_that(store: Store, options: Any) -> None:
    door = Door(**options)
    run_id = await door.interrupted(door.agent(COMPUTED, store))
    agent = again(door, COMPUTED, store)
    result = await agent.aresume(run_id)
    if options:
        [unknown] = result.pending
        assert "secret" not in unknown.why
        result = await agent.aresume(run_id, approvals={unknown.id: True})
    assert (result.status, result.output) == (RunStatus.COMPLETED, "open")
    assert door.keys == [SECRET, SECRET]


async def test_a_text_with_an_ellipsis_is_no_mask(store: Store) -> None:
    door = Door()
    call = ModelReply(tool_calls=[ToolCall("c", "open_door", {"key": "wait…"})])
    run_id = await door.interrupted(ToolCallingAgent(door.tools, ScriptedModel([call]), store=store))
    result = await ToolCallingAgent(door.tools, ScriptedModel(["done"]), store=store).aresume(run_id)
    assert result.status is RunStatus.COMPLETED
    assert door.keys == ["wait…", "wait…"]


async def test_nor_is_a_call_that_was_never_begun(store: Store) -> None:
    """A snippet that is run again gets the mask from what is recorded of the call before."""
    door = Door(cancels=0)
    stops = anyio.CancelScope()

    async def stop() -> str:
        """Stop, the first time."""
        if not stops.cancel_called:
            stops.cancel()
            await anyio.lowlevel.checkpoint()
        return "went on"

    code = "```python\nkey = read_key()\nstop()\nopen_door(key=key)\nfinal_answer(1)\n```"
    tools = [*door.tools, tool(stop)]
    with stops:
        await CodeAgent(tools, ScriptedModel([code]), store=store).arun("open the door")
    agent = CodeAgent(tools, ScriptedModel([]), store=store)
    waits = await agent.aresume(store.runs()[0].run_id)
    assert [one.arguments for one in waits.pending] == [{"key": "…x7yz"}]
    assert door.keys == []


async def test_nor_is_one_with_what_a_managed_agent_gave(store: Store) -> None:
    """Whose own records alone say that a secret was taken out: its manager's have the beginning of what it gave."""
    door = Door()
    said = f"{'long ' * 1000}{SECRET}"
    clerk = CodeAgent(
        [], ScriptedModel([f"```python\nfinal_answer({said!r})\n```"]), name="clerk", description="Knows."
    )
    code = "```python\nkey = clerk(task='the key')\nopen_door(key=key[-40:])\nfinal_answer(1)\n```"
    options: dict[str, Any] = {"managed_agents": [clerk], "store": store, "name": "boss"}
    boss = CodeAgent(door.tools, ScriptedModel([code]), **options)
    with door.scope:
        await boss.arun("open the door")
    run_id = next(run.run_id for run in store.runs() if run.parent_run_id is None)
    waits = await CodeAgent(door.tools, ScriptedModel([]), **options).aresume(run_id)
    assert [one.arguments["key"][-5:] for one in waits.pending] == ["…x7yz"]
    assert door.keys == [said[-40:]]
