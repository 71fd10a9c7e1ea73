"""AutoGen's own agents and teams over a guarded client that refuses whatever does not fit."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import SelectorGroupChat
from autogen_core import FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    RequestUsage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import FunctionTool, StaticWorkbench
from PIL import Image as Picture
from tests.guard.dict_conversations import conversation, counted, faults

from wherry import ContextBudget
from wherry.errors import ContextBudgetError
from wherry.guard.autogen import GuardClient, GuardContext, GuardWorkbench
from wherry.guard.autogen_messages import AutoGenMessages, schemas

pytestmark = pytest.mark.anyio
WINDOW = 2_048

Reply = str | list[FunctionCall]


class SmallServer(ChatCompletionClient):
    """Answers by a function, and refuses a request that a server of 2,048 tokens would refuse."""

    component_type = "model"

    def __init__(self, reply: Callable[[Sequence[LLMMessage]], Reply]) -> None:
        self.reply = reply
        self.requests: list[list[LLMMessage]] = []
        self.closed = False

    async def create(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = (), **_: Any) -> CreateResult:
        dicts = AutoGenMessages(messages).dicts
        plain = [{**raw, "content": raw["content"] or ""} for raw in dicts]
        offered = [{"function": {"description": "", **tool}} for tool in schemas(tools)]
        tokens = counted(plain, offered)
        assert tokens + WINDOW // 4 <= WINDOW, f"400: {tokens} tokens"
        allowed = ("in a row", "begins with")
        assert [fault for fault in faults(plain) if not any(word in fault for word in allowed)] == []
        self.requests.append(list(messages))
        content = self.reply(messages)
        reason = "stop" if isinstance(content, str) else "function_calls"
        return CreateResult(finish_reason=reason, content=content, usage=RequestUsage(tokens, 5), cached=False)

    async def create_stream(
        self, messages: Sequence[LLMMessage], **rest: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        result = await self.create(messages, **rest)
        yield str(result.content)
        yield result

    async def close(self) -> None:
        self.closed = True

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(1, 2)

    def total_usage(self) -> RequestUsage:
        return RequestUsage(3, 4)

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        return 7

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        return WINDOW

    @property
    def capabilities(self) -> Any:
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return ModelInfo(vision=True, function_calling=True, json_output=True, family="unknown", structured_output=True)

    def _to_config(self) -> Any:
        raise AssertionError("not asked for")

    @classmethod
    def _from_config(cls, config: Any) -> Any:
        raise AssertionError("not asked for")


async def read_page(number: int) -> str:
    """Reads a page."""
    return f"page {number}: " + "a long text " * 400


async def test_an_agent_with_large_results_runs_for_fifty_turns() -> None:
    turns = iter(range(50))

    def reply(_: Sequence[LLMMessage]) -> Reply:
        turn = next(turns, None)
        return "done" if turn is None else [FunctionCall(f"c{turn}", json.dumps({"number": turn}), "read_page")]

    server = SmallServer(reply)
    client = GuardClient(server, WINDOW, counter="qwen")
    agent = AssistantAgent("reader", client, tools=[read_page], max_tool_iterations=60, reflect_on_tool_use=True)
    result = await agent.run(task="Read fifty pages.")
    assert result.messages[-1].to_text() == "done"
    assert len(server.requests) == 51
    assert "Read fifty pages." in str(server.requests[-1])


async def test_a_selector_group_chat_stays_within_the_window() -> None:
    def reply(messages: Sequence[LLMMessage]) -> Reply:
        asked = str(messages[0].content)
        return "writer" if "role" in asked and "select" in asked else "I say: " + "so and so " * 300

    server = SmallServer(reply)
    client = GuardClient(server, WINDOW, counter="qwen")
    agents: list[Any] = [
        AssistantAgent(name, client, description=name, system_message="Policy. " * 5_000)
        for name in ("writer", "critic")
    ]
    team = SelectorGroupChat(
        agents, client, termination_condition=MaxMessageTermination(12), allow_repeated_speaker=True
    )
    result = await team.run(task="Discuss the harbour.")
    assert len(result.messages) == 12
    assert len(server.requests) > 12


async def test_what_fits_reaches_the_client_as_the_very_objects() -> None:
    server = SmallServer(lambda _: "yes")
    client = GuardClient(server, WINDOW, counter="qwen")
    picture = Image.from_pil(Picture.new("RGB", (8, 8)))
    messages: list[LLMMessage] = [
        SystemMessage(content="You help."),
        UserMessage(content="one", source="a"),
        UserMessage(content="two", source="b"),
        AssistantMessage(content=[FunctionCall("1", "{}", "f"), FunctionCall("2", "{}", "g")], source="c"),
        FunctionExecutionResultMessage(
            content=[FunctionExecutionResult(content="x", name=n, call_id=i) for n, i in (("f", "1"), ("g", "2"))]
        ),
    ]
    await client.create(messages)
    assert all(new is old for new, old in zip(server.requests[0], messages, strict=True))
    assert client.last is not None
    assert not client.last.changed
    wide = GuardClient(server, ContextBudget(8_192), counter="qwen")
    await wide.create([UserMessage(content=["what is it?", picture], source="a")])
    assert server.requests[-1][0].content[1] is picture
    assert wide.last is not None
    assert wide.last.tokens > 1_600


async def test_streams_pass_and_are_bounded() -> None:
    client = GuardClient(SmallServer(lambda _: "yes"), WINDOW, counter="qwen")
    messages: list[LLMMessage] = [UserMessage(content="many words " * 5_000, source="a")]
    chunks = [chunk async for chunk in client.create_stream(messages)]
    assert chunks[0] == "yes"
    assert isinstance(chunks[1], CreateResult)


async def test_all_else_is_the_clients_own() -> None:
    server = SmallServer(lambda _: "yes")
    client = GuardClient(server)
    assert client.model_info == server.model_info
    assert client.capabilities == server.capabilities
    assert client.actual_usage() == RequestUsage(1, 2)
    assert client.total_usage() == RequestUsage(3, 4)
    assert client.count_tokens([]) == 7
    assert client.remaining_tokens([]) == WINDOW
    await client.create([UserMessage(content="words " * 9_000, source="a")])  # the window is what the client says
    await client.close()
    assert server.closed


async def test_tools_that_fill_the_window_are_refused_before_the_call() -> None:
    server = SmallServer(lambda _: "yes")
    tool = FunctionTool(read_page, description="Reads. " * 3_000)
    with pytest.raises(ContextBudgetError, match="tool schemas"):
        await GuardClient(server, WINDOW, counter="qwen").create([UserMessage(content="x", source="a")], tools=[tool])
    assert server.requests == []


def as_messages(dicts: Sequence[Mapping[str, Any]]) -> list[LLMMessage]:
    return AutoGenMessages([]).back(dicts)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
async def test_a_context_stores_no_more_than_its_budget(seed: int) -> None:
    context = GuardContext(4_096, counter="qwen")
    for message in as_messages(conversation(seed, most=40_000)):
        await context.add_message(message)
    state = await context.save_state()
    assert len(json.dumps(state)) < 40_000
    again = GuardContext(4_096, counter="qwen")
    await again.load_state(state)
    assert await again.get_messages() == await context.get_messages()
    kept = [{**raw, "content": raw["content"] or ""} for raw in AutoGenMessages(await context.get_messages()).dicts]
    assert counted(kept) + 1_024 <= 4_096
    assert [fault for fault in faults(kept) if "in a row" not in fault and "begins" not in fault] == []


async def test_a_context_goes_on_with_its_summary() -> None:
    context = GuardContext(1_024, counter="qwen")
    await context.add_message(UserMessage(content="Find the order number.", source="user"))
    for turn in range(30):
        said = f"Order T-{turn}99 was found. " if turn == 0 else ""
        await context.add_message(AssistantMessage(content=said + "Nothing else was there. " * 15, source="a"))
        await context.add_message(UserMessage(content=f"Go on, {turn}.", source="user"))
    messages = await context.get_messages()
    assert sum("<wherry:summary>" in str(message.content) for message in messages) == 1
    assert "T-099" in str(messages)
    await context.clear()
    assert await context.get_messages() == []


async def test_components_are_written_and_read() -> None:
    context = GuardContext(ContextBudget(999, reserve_output=99), counter="qwen")
    loaded = GuardContext.load_component(context.dump_component())
    assert loaded.dump_component() == context.dump_component()


async def test_large_results_stay_outside() -> None:
    async def rows() -> str:
        return "\n".join(f"row {n}: value {n * 7}" for n in range(5_000))

    workbench = GuardWorkbench(
        StaticWorkbench([FunctionTool(rows, description="Rows.")]), "memory://", per_result=300, counter="qwen"
    )
    assert [tool["name"] for tool in await workbench.list_tools()] == ["rows", "read_artifact", "search_artifact"]
    async with workbench:
        result = await workbench.call_tool("rows", {})
        text = result.to_text()
        assert len(text) < 2_000
        ref = text.partition('ref="')[2].partition('"')[0]
        found = await workbench.call_tool("search_artifact", {"ref": ref, "query": "row 4321:"})
        assert "value 30247" in found.to_text()
        part = await workbench.call_tool("read_artifact", {"ref": ref, "offset": 0, "limit": 200})
        assert "row 1: value 7" in part.to_text()
        wrong = await workbench.call_tool("read_artifact", {"ref": "a-000000000000"})
        assert wrong.is_error
        small = await workbench.call_tool("no such tool", {})
        assert small.is_error
