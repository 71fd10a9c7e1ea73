"""LangChain's own agent over a chat model that refuses whatever does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

pytest.importorskip("langchain")

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from tests.guard.dict_conversations import counted, faults

from wherry.guard.langchain import GuardMiddleware, openai_dict

pytestmark = pytest.mark.anyio
WINDOW = 2_048


class SmallServer(BaseChatModel):
    """Asks for one page after the other, and refuses what a server of 2,048 tokens would refuse."""

    pages: Iterator[int]
    requests: list[list[BaseMessage]] = []
    tools: list[dict[str, Any]] = []

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        self.tools = [convert_to_openai_tool(tool) for tool in tools]
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        dicts = [{**openai_dict(message), "content": message.text} for message in messages]
        tokens = counted(dicts, self.tools)
        assert tokens + WINDOW // 4 <= WINDOW, f"400: {tokens} tokens"
        assert [fault for fault in faults(dicts) if "in a row" not in fault and "begins" not in fault] == []
        self.requests.append(messages)
        page = next(self.pages, None)
        calls = [] if page is None else [{"name": "read_page", "args": {"number": page}, "id": f"c{page}"}]
        reply = AIMessage(content="done" if page is None else "", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=reply)])

    @property
    def _llm_type(self) -> str:
        return "small"


def read_page(number: int) -> str:
    """Reads a page."""
    return f"page {number}: " + "a long text " * 400


def test_an_agent_with_large_results_runs_on() -> None:
    model = SmallServer(pages=iter(range(40)), requests=[])
    guard = GuardMiddleware(WINDOW, counter="qwen")
    agent: Any = create_agent(model, [read_page], system_prompt="Read all. " * 30, middleware=[guard])
    state = agent.invoke({"messages": [HumanMessage("Read forty pages.")]}, {"recursion_limit": 200})
    assert state["messages"][-1].text == "done"
    assert len(model.requests) == 41
    assert "Read forty pages." in [message.text for message in model.requests[-1]]
    assert len(state["messages"]) == 82  # what the program holds stays its own


async def test_an_agent_with_large_results_runs_on_async() -> None:
    model = SmallServer(pages=iter(range(12)), requests=[])
    agent: Any = create_agent(model, [read_page], middleware=[GuardMiddleware(WINDOW, counter="qwen")])
    state = await agent.ainvoke({"messages": [HumanMessage("Read.")]}, {"recursion_limit": 200})
    assert state["messages"][-1].text == "done"


def test_what_fits_reaches_the_model_as_it_is() -> None:
    model = SmallServer(pages=iter(()), requests=[])
    guard = GuardMiddleware(WINDOW, counter="qwen")
    agent: Any = create_agent(model, [], system_prompt=SystemMessage("You help."), middleware=[guard])
    asked = HumanMessage("hello", name="someone")
    agent.invoke({"messages": [asked]})
    assert guard.last is not None
    assert not guard.last.changed
    assert model.requests[0][1] == asked


def test_a_system_prompt_of_all_policies() -> None:
    model = SmallServer(pages=iter(()), requests=[])
    guard = GuardMiddleware(WINDOW, counter="qwen")
    agent: Any = create_agent(model, [], system_prompt="Be polite to all guests. " * 12_000, middleware=[guard])
    agent.invoke({"messages": [HumanMessage("hello")]})
    assert [message.type for message in model.requests[0]] == ["system", "human"]
