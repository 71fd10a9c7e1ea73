"""Tools of MCP servers, as programs written for smolagents use them, with real servers in processes of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
from mcp import StdioServerParameters
from PIL.Image import Image
from tests.compat_smolagents.test_smolagents_face import actions, calls, code, code_agent, tool_agent

from wherry.compat.smolagents import AgentImage, MCPClient, ToolCollection
from wherry.errors import ConfigurationError, ToolError

# Slow: each server is a process that imports a web framework.
pytestmark = pytest.mark.slow

SERVER = str(Path(__file__).with_name("mcp_server.py"))
PARAMETERS = StdioServerParameters(command=sys.executable, args=[SERVER])
PATIENT: dict[str, Any] = {"connect_timeout": 60.0}


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


@pytest.fixture(scope="module")
def sse() -> Generator[str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, SERVER, "sse", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=60).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.01)  # the server says nowhere that it listens
        yield f"http://127.0.0.1:{port}/sse"
    finally:
        process.kill()
        process.wait(60)


def named(tools: list[Any]) -> dict[str, Any]:
    return {one.name: one for one in tools}


def test_results_by_what_is_asked_for() -> None:
    ship = {"name": "Elsa", "masts": 3, "flag": None}
    with MCPClient(PARAMETERS, PATIENT) as tools:
        have = named(tools)
        assert have["ship"](name="Elsa") == ship
        assert have["berths"]() == 12
        assert have["log"]() == '["in", "out"]'
        assert "flag" in have["ship"].to_code_prompt()
        with pytest.raises(ToolError, match="fog"):
            have["fog"]()
    with MCPClient(PARAMETERS, PATIENT, structured_output=True) as tools:
        have = named(tools)
        assert have["ship"].output_type == "object"
        assert have["ship"].output_schema["type"] == "object"
        assert have["ship"].forward(name="Elsa") == ship
        assert have["berths"]({}) == {"result": 12}
        assert have["log"]() == ["in", "out"]
    with MCPClient(PARAMETERS, PATIENT, structured_output=False) as tools:
        have = named(tools)
        assert have["ship"].output_schema is None
        said = have["ship"](name="Elsa")
        assert isinstance(said, str)
        assert '"masts": 3' in said
        assert have["berths"]() == "12"
        assert have["log"]() == '["in", "out"]'


def test_several_servers_and_a_client_that_is_closed_by_hand(sse: str) -> None:
    client = MCPClient([PARAMETERS, {"url": sse, "transport": "sse"}], PATIENT)
    try:
        tools = client.get_tools()
        assert [one.name for one in tools].count("berths") == 2
        assert [one() for one in tools if one.name == "berths"] == [12, 12]
    finally:
        client.disconnect()
    with pytest.raises(ValueError, match="connect"):
        client.get_tools()
    client.connect()
    assert client.get_tools()
    client.disconnect()


def test_a_server_that_streams_events(sse: str) -> None:
    options: dict[str, Any] = {"trust_remote_code": True, "adapter_kwargs": PATIENT}
    with ToolCollection.from_mcp({"url": sse, "transport": "sse"}, **options) as collection:
        agent = code_agent(code("final_answer(ship('Elsa')['masts'] + berths())"), tools=[*collection.tools])
        assert agent.run("go") == 15


def test_a_picture_of_a_server_is_a_picture() -> None:
    with MCPClient(PARAMETERS, PATIENT) as tools:
        image = cast("Image", named(tools)["photo"]())
        assert image.size == (4, 3)
        agent = tool_agent(calls(("photo", {})), calls(("final_answer", {"answer": "image.png"})), tools=tools)
        answer = agent.run("Show me the harbour.")
        assert "image.png" in str(actions(agent)[0].observations)
    assert isinstance(answer, AgentImage)
    assert answer.to_raw().size == (4, 3)


def test_a_transport_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match="'pigeon'"):
        MCPClient({"url": "http://127.0.0.1:1/", "transport": "pigeon"})
