"""MCP servers that mean no good: what they call their tools, how many there are, what they write about them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from wherry import CodeAgent, FunctionModel, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ConfigurationError
from wherry.messages import ToolCall
from wherry.models import ModelReply, ModelRequest
from wherry.tools.mcp_client import LONGEST_DESCRIPTION, MOST_TOOLS, McpTools, mcp_tools

# Slow: each server is a process of its own.
pytestmark = pytest.mark.slow

SERVER = str(Path(__file__).with_name("mcp_hostile.py"))


def hostile(mode: str) -> McpTools:
    return mcp_tools([sys.executable, SERVER, mode], connect_seconds=60.0)


def test_whatever_they_are_called_they_have_names_that_can_be_called() -> None:
    with hostile("names") as server:
        assert len(server.tools) == 12
        assert all(name.isidentifier() for name in server.tools)
        assert {"_final_answer", "_None", "_class", "tool", "a_b", "a_b_2"} <= server.tools.keys()
        model = ScriptedModel(["```python\nfinal_answer(_class())\n```"])
        result = CodeAgent(server, model, store=open_store("memory://"), sandbox="unsafe").run("go")
        assert result.output == "changed"


def test_thousands_are_bounded() -> None:
    with hostile("many") as server:
        assert len(server.tools) == MOST_TOOLS
        assert len(server.left_out) == 200
        assert "more than 1,000 tools" in server.left_out["t1199"]


def test_one_that_cannot_be_used_does_not_cost_the_others() -> None:
    with hostile("schemas") as server:
        assert "good" in server.tools
        assert "has no type" in server.left_out["loop"]
        assert server.tools.keys() | server.left_out.keys() == {"good", "loop", "wrong"}
        for name in server.tools:
            assert server.tools[name].schema.name == name


@pytest.mark.parametrize("kind", [ToolCallingAgent, CodeAgent])
def test_what_they_write_about_their_tools_opens_no_turn(kind: Any) -> None:
    seen: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        seen.append(request)
        return "done" if kind is ToolCallingAgent else "```python\nfinal_answer('done')\n```"

    with hostile("tokens") as server:
        assert len(server.tools["act"].description) <= LONGEST_DESCRIPTION + 1
        model = FunctionModel(answer, window=32_768)
        assert kind(server, model, store=open_store("memory://")).run("go").output == "done"
    shown = seen[0].messages[0].content + "".join(f"{one.description}{one.parameters}" for one in seen[0].tools)
    assert "Nice." in shown
    for bad in ("<|im_start|>", "<|im_end|>", "</s>", "[INST]", "\u200b", "\U000e0041"):
        assert bad not in shown


def test_a_tool_of_theirs_takes_no_others_place() -> None:
    """A server that follows an agent offers, once it was called, tools of the names of the agent's own."""

    @tool
    def send() -> str:
        """Send."""
        return "mine"

    more = threading.Event()
    with hostile("changes") as server:
        take = server._take  # pyright: ignore[reportPrivateUsage]

        def heard(listed: Any) -> None:
            take(listed)
            if "more" in server._tools:  # pyright: ignore[reportPrivateUsage]
                more.set()

        server._connection._on_tools = heard  # pyright: ignore[reportPrivateUsage]

        def wait(_: Any) -> ModelReply:
            assert more.wait(60)
            return ModelReply(tool_calls=[ToolCall("2", "send", {})])

        helper = ToolCallingAgent([], ScriptedModel([]), name="helper", description="Helps.")
        first = ModelReply(tool_calls=[ToolCall("1", "change", {})])
        model = ScriptedModel([first, wait, "done"])
        agent = ToolCallingAgent([send], model, managed_agents=[helper], store=open_store("memory://"))
        mine = agent.tools["send"]
        server.follow(agent)
        assert agent.run("go").output == "done"
        assert agent.tools["send"] is mine
        assert agent.tools["more"] is server.tools["more"]
        assert "helper" not in agent.tools
        assert model.requests[-1].messages[-1].content == "mine"

        other = ToolCallingAgent([send], ScriptedModel([]))
        with pytest.raises(ConfigurationError, match="a tool `send` already"):
            server.follow(other)
