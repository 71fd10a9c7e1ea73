"""Servers that refuse what others take: no two users in a row, no calls where no tools are offered."""

from __future__ import annotations

import pytest
from conversations import Recorder, opened

from wherry import CodeAgent, FunctionModel, ToolCallingAgent, open_store, tool
from wherry.context import ContextBudget
from wherry.errors import ModelError
from wherry.journal import messages_of_request
from wherry.messages import Message, ToolCall, ToolSchema
from wherry.models import ModelReply, ModelRequest

pytestmark = pytest.mark.anyio
SYSTEM = Message("system", "You help.")
TOOLS = (ToolSchema("search", "Searches.", {"type": "object", "properties": {"q": {"type": "string"}}}),)


def strict(request: ModelRequest) -> None:
    """Refuse what the templates of Mistral 7B v0.3 and Gemma 2 refuse, and what Anthropic's interface does.

    Raises:
        ModelError: As their servers put it.
    """
    if not request.tools and any(m.role == "tool" or m.tool_calls for m in request.messages):
        raise ModelError("requests with `tool_use` or `tool_result` blocks must define tools", kind="BadRequest")
    spoken = [m for m in request.messages if m.role in ("user", "assistant") and not m.tool_calls]
    spoken = [m for m in spoken if m.role != "system"]
    for place, message in enumerate(spoken):
        if (message.role == "user") != (place % 2 == 0):
            raise ModelError("Conversation roles must alternate user/assistant/user/assistant/...", kind="BadRequest")


@tool
def search(q: str) -> str:
    """Search.

    Args:
        q: what for
    """
    return f"found {q} " + "and more " * 40


async def test_the_last_word_of_a_tool_calling_agent_has_its_calls_in_words() -> None:
    requests: list[ModelRequest] = []

    def answer(request: ModelRequest) -> ModelReply | str:
        strict(request)
        requests.append(request)
        if not request.tools:
            return "as far as I know"
        calls = [ToolCall(f"c{len(requests)}.{n}", "search", {"q": f"{n}"}) for n in range(2)]
        return ModelReply("Let me see.", tool_calls=calls)

    store = open_store("memory://")
    agent = ToolCallingAgent([search], FunctionModel(answer, window=8_192), max_steps=3, store=store)
    result = await agent.arun("Find it.")
    assert (result.status, result.output) == ("max_steps", "as far as I know")
    last = requests[-1].messages
    assert [message.role for message in last] == ["system", "user", *["assistant", "user"] * 3]
    assert '[called search with {"q": "0"}]' in last[2].content
    assert "[search returned]\nfound 0 and more" in last[3].content
    assert "no steps left" in last[-1].content
    assert messages_of_request(store, result.run_id, 4) == list(last)


@pytest.mark.parametrize("window", [2_048, 8_192])
async def test_a_code_agent_whose_turns_are_folded_alternates(window: int) -> None:
    count = 0

    def answer(request: ModelRequest) -> str:
        nonlocal count
        strict(request)
        count += 1
        if "no steps left" in request.messages[-1].content:
            return "done"
        return f"```python\nprint('row {count} ' + 'word ' * 60)\n```"

    agent = CodeAgent(model=FunctionModel(answer, window=window), max_steps=25, store="memory://", sandbox="unsafe")
    result = await agent.arun("Print rows.")
    assert (result.status, result.output) == ("max_steps", "done")
    assert count == 26


async def test_speakers_who_follow_one_another_are_told_apart() -> None:
    window, _ = opened("You help.", "Discuss.", budget=ContextBudget(4_096))
    await window.append(Message("assistant", "Who begins?"))
    await window.append(Message("user", "I do.", name="Ada"))
    await window.append(Message("user", "So do I.", name="Bob"))
    await window.append(Message("user", "Go on."))
    fitted = await window.request(system=SYSTEM, tools=TOOLS)
    assert [message.role for message in fitted.messages] == ["system", "user", "assistant", "user"]
    assert fitted.messages[-1].content == "Ada: I do.\n\nBob: So do I.\n\nGo on."


async def test_one_more_user_message_goes_on_where_the_last_one_ended() -> None:
    window, recorder = opened("You help.", "Do it.", budget=ContextBudget(4_096), recorder=Recorder())
    first = await window.request(system=SYSTEM, tools=TOOLS)
    await window.append(Message("user", "And quickly."))
    second = await window.request(system=SYSTEM, tools=TOOLS)
    assert second.messages[-1].content == f"{first.messages[-1].content}\n\nAnd quickly."
    assert second.keep == 1
    assert set(second.add) <= set(recorder.kept)


async def test_tools_that_come_back_bring_the_calls_back() -> None:
    window, _ = opened("You help.", "Do it.", budget=ContextBudget(4_096), tools=TOOLS)
    await window.append(Message("assistant", tool_calls=[ToolCall("c", "search", {"q": "x"})]))
    await window.append(Message("tool", "found", tool_call_id="c", name="search"))
    offered = await window.request(system=SYSTEM, tools=TOOLS)
    without = await window.request(system=SYSTEM, tools=())
    again = await window.request(system=SYSTEM, tools=TOOLS)
    assert offered.messages == again.messages
    assert [message.role for message in without.messages] == ["system", "user", "assistant", "user"]
    assert without.keep == 2
