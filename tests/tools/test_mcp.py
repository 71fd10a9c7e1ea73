"""MCP, with real servers in processes of their own, over both transports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.tools.mcp_servers import wait_until_dead

from wherry import CodeAgent, ScriptedModel, ToolCallingAgent, open_store, tool
from wherry.errors import ConfigurationError, MissingExtra, ToolArgumentError, ToolError, ToolTimeout
from wherry.journal import EventType, read_events
from wherry.messages import ToolCall
from wherry.models import ModelReply
from wherry.tools import ToolContext, use_context
from wherry.tools.mcp_client import McpTools, mcp_tools
from wherry.tools.mcp_server import mcp_app, mcp_server

# Slow: each server is a process that imports a web framework.
pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SERVER = str(Path(__file__).with_name("mcp_servers.py"))
COMMAND = [sys.executable, SERVER]
PATIENT = 60.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def over_http(port: int) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*COMMAND, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=PATIENT).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait(PATIENT)


@pytest.fixture(params=["stdio", "http"])
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[McpTools]:
    if request.param == "stdio":
        async with mcp_tools(COMMAND, connect_seconds=PATIENT) as found:
            yield found
    else:
        port = free_port()
        with over_http(port):
            async with mcp_tools(f"http://127.0.0.1:{port}/mcp", connect_seconds=PATIENT) as found:
                yield found


async def call(server: McpTools, name: str, **arguments: Any) -> Any:
    return await server.tools[name].call(arguments)


class TestCalls:
    async def test_values(self, server: McpTools) -> None:
        assert await call(server, "add", a=1) == 3
        assert await call(server, "add", a=1, b=40) == 41
        assert await call(server, "record") == {"name": "Ada", "born": 1815}
        assert await call(server, "dotted_name_x") == "word: None"
        assert await call(server, "dotted_name_x", word="x") == "word: x"
        schema = server.tools["add"].schema
        assert schema.parameters["required"] == ["a"]
        assert schema.returns is not None
        assert schema.returns["type"] == "integer"

    async def test_what_fails_is_told(self, server: McpTools) -> None:
        with pytest.raises(ToolError, match="the boat sank"):
            await call(server, "fail")
        with pytest.raises(ToolArgumentError, match="`a`"):
            await call(server, "add", a="many")

    async def test_pictures_and_resources(self, server: McpTools) -> None:
        store = open_store("memory://")
        with use_context(ToolContext("run", "agent", None, store)):
            text, picture, notes, blob, link = await call(server, "mixed")
        assert text == "a picture"
        assert store.artifacts.read(picture["artifact"]) == b"\x89PNG picture"
        assert picture["media_type"] == "image/png"
        assert notes == {"resource": "file:///a.txt", "text": "notes"}
        assert store.artifacts.read(blob["artifact"]) == b"\0\1"
        assert link == {"resource": "file:///c.csv", "name": "c", "media_type": "text/csv"}

    async def test_hints(self, server: McpTools) -> None:
        assert not server.tools["process"].side_effects
        assert server.tools["add"].side_effects
        assert all(one.untrusted for one in server)

    async def test_many_at_once(self, server: McpTools) -> None:
        assert await asyncio.gather(*(call(server, "add", a=n, b=0) for n in range(20))) == list(range(20))

    async def test_a_time_limit(self, server: McpTools, tmp_path: Path) -> None:
        one: Any = server.tools["hang"]
        one.seconds = 0.2
        with pytest.raises(ToolTimeout, match=r"0\.2 s"):
            await one.call({"marker": str(tmp_path / "marker")})
        assert await call(server, "add", a=1) == 3

    async def test_cancelling_reaches_the_server(self, server: McpTools, tmp_path: Path) -> None:
        marker = tmp_path / "marker"
        task = asyncio.create_task(call(server, "hang", marker=str(marker)))
        await until(marker.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: marker.read_text() == "cancelled")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT):
        while not true():
            await asyncio.sleep(0.005)


class TestDeath:
    async def test_killed_between_calls_stdio(self) -> None:
        async with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            first = await call(server, "process")
            os.kill(first, signal.SIGKILL)
            await asyncio.to_thread(wait_until_dead, first)
            assert await call(server, "add", a=1) == 3
            assert await call(server, "process") != first

    async def test_killed_between_calls_http(self) -> None:
        port = free_port()
        with over_http(port) as process:
            server = await mcp_tools(f"http://127.0.0.1:{port}/mcp", connect_seconds=PATIENT).__aenter__()
            assert await call(server, "add", a=1) == 3
            process.kill()
            process.wait(PATIENT)
        with pytest.raises(ToolError, match="cannot be connected to"):
            await call(server, "add", a=1)
        with over_http(port):
            assert await call(server, "add", a=1, b=1) == 2
            await server.__aexit__(None, None, None)

    async def test_killed_and_back_before_the_next_call(self) -> None:
        port = free_port()
        with over_http(port):
            server = await mcp_tools(f"http://127.0.0.1:{port}/mcp", connect_seconds=PATIENT).__aenter__()
            assert await call(server, "add", a=1) == 3
        with over_http(port):
            assert await call(server, "add", a=2) == 4
            await server.__aexit__(None, None, None)

    async def test_killed_in_a_call(self, tmp_path: Path) -> None:
        """What may have taken effect is not done again on nobody's word."""
        marker = tmp_path / "marker"
        async with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            with pytest.raises(ToolError, match="not known"):
                await call(server, "die", marker=str(marker))
            assert marker.read_text() == "x"
            assert await call(server, "add", a=1) == 3

    async def test_killed_in_a_call_that_only_reads(self, tmp_path: Path) -> None:
        async with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            assert await call(server, "die_once", marker=str(tmp_path / "marker")) == "alive"

    async def test_nothing_is_left(self) -> None:
        async with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            parent, child = await call(server, "process"), await call(server, "start_child")
            threads = [one for one in threading.enumerate() if one.name == "wherry-mcp"]
            assert len(threads) == 1
        try:
            await asyncio.to_thread(wait_until_dead, parent)
            assert not threads[0].is_alive()
        finally:
            os.kill(child, signal.SIGKILL)  # a server that ends by itself has had its chance to clean up
        with pytest.raises(ToolError, match="was closed"):
            await call(server, "add", a=1)

    async def test_a_server_that_does_not_want_to_end(self, tmp_path: Path) -> None:
        """It and what it started are killed with their group."""
        program = tmp_path / "stubborn.py"
        program.write_text(
            "import runpy, signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"runpy.run_path({SERVER!r}, run_name='__main__')\n"
            "time.sleep(1000)\n"
        )
        async with mcp_tools([sys.executable, str(program)], connect_seconds=PATIENT) as server:
            pids = [await call(server, "process"), await call(server, "start_child")]
        for pid in pids:
            await asyncio.to_thread(wait_until_dead, pid)


class TestUnusual:
    async def test_standard_error_is_not_ours(self, capfd: pytest.CaptureFixture[str]) -> None:
        async with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            assert await call(server, "add", a=1) == 3
        assert "a line of the server's own" not in capfd.readouterr().err

    async def test_variables_of_this_process_are_not_theirs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("A_SECRET", "x")
        async with mcp_tools(COMMAND, env={"GIVEN": "1"}, connect_seconds=PATIENT) as server:
            names = await call(server, "environment")
        assert "GIVEN" in names
        assert "A_SECRET" not in names

    @pytest.mark.parametrize(
        ("server", "said"),
        [
            (["/nonexistent/server"], "No such file"),
            ([sys.executable, "-c", "import sys; sys.exit('no configuration')"], "it said: .*no configuration"),
        ],
    )
    async def test_one_that_cannot_be_had(self, server: Any, said: str) -> None:
        with pytest.raises(ToolError, match=said):
            async with mcp_tools(server, connect_seconds=PATIENT):
                raise AssertionError("unreachable")

    def test_one_that_says_nothing(self) -> None:
        silent = mcp_tools([sys.executable, "-c", "import time; time.sleep(1000)"], connect_seconds=0.3)
        with pytest.raises(ToolError, match=r"did not answer within 0\.3 s"):
            silent.connect()
        silent.close()

    def test_closing_while_one_that_says_nothing_is_being_ended(self, tmp_path: Path) -> None:
        """It heard that its input has ended, and is given time to go, when the connection is closed as well."""
        heard = tmp_path / "heard"
        program = f"import os, sys, time; sys.stdin.read(); open({str(heard) + '~'!r}, 'w').write(str(os.getpid()));"
        program += f" os.rename({str(heard) + '~'!r}, {str(heard)!r}); time.sleep(1000)"
        silent = mcp_tools([sys.executable, "-c", program], connect_seconds=1)
        with pytest.raises(ToolError, match="did not answer"):
            silent.connect()
        deadline = time.monotonic() + PATIENT
        while not heard.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        closing = threading.Thread(target=silent.close, daemon=True)
        closing.start()
        closing.join(PATIENT)
        hangs = closing.is_alive()
        if hangs:
            os.kill(int(heard.read_text()), signal.SIGKILL)
        assert not hangs
        wait_until_dead(int(heard.read_text()))

    @pytest.mark.parametrize("wrong", ["python server.py", "", [], ["a", 1], {"name": "x"}, "ftp://a/mcp"])
    def test_what_is_no_server(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="no MCP server"):
            mcp_tools(wrong)

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mcp", None)
        with pytest.raises(MissingExtra, match=r"wherry\[mcp\]"):
            mcp_tools(COMMAND).connect()

    def test_prefixes(self) -> None:
        configured: dict[str, Any] = {"command": sys.executable, "args": [SERVER], "env": {}}
        with mcp_tools(configured, prefix="boats_", connect_seconds=PATIENT, untrusted=False) as server:
            assert "boats_add" in server.tools
            assert not server.tools["boats_add"].untrusted


class TestAgents:
    def test_both_kinds_of_agent(self) -> None:
        replies = [ModelReply(tool_calls=[ToolCall("1", "add", {"a": 1})]), "done"]
        with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            model = ScriptedModel(replies)
            store = open_store("memory://")
            ToolCallingAgent(server, model, store=store).run("add")
            seen = model.requests[-1].messages[-1].content
            assert seen.startswith("<wherry:untrusted id=")
            assert "\n3\n" in seen
            code = ScriptedModel(["```python\nfinal_answer(add(1) + record()['born'])\n```"])
            result = CodeAgent(server, code, store=store, sandbox="unsafe").run("add")
            assert result.output == 1818

    def test_a_large_result_is_set_aside(self) -> None:
        replies = [ModelReply(tool_calls=[ToolCall("1", "large", {"count": 200_000})]), "done"]
        with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            model = ScriptedModel(replies)
            ToolCallingAgent(server, model, store=open_store("memory://")).run("go")
        seen = model.requests[-1].messages[-1].content
        assert len(seen) < 100_000
        assert seen.startswith("<wherry:untrusted")
        assert "<wherry:offloaded ref=" in seen

    def test_what_changes_is_an_event(self) -> None:
        """A tool that a server adds, changes or takes back is recorded by its digest at the next step."""
        with mcp_tools(COMMAND, connect_seconds=PATIENT) as server:
            changed = threading.Event()
            take = server._take  # pyright: ignore[reportPrivateUsage]

            def heard(listed: Any) -> None:
                take(listed)
                if "added" in server._tools:  # pyright: ignore[reportPrivateUsage]
                    changed.set()

            server._connection._on_tools = heard  # pyright: ignore[reportPrivateUsage]

            def wait(_: Any) -> ModelReply:
                assert changed.wait(PATIENT)
                return ModelReply(tool_calls=[ToolCall("2", "add", {"a": 1})])

            first = ModelReply(tool_calls=[ToolCall("1", "change", {})])
            store = open_store("memory://")
            agent = ToolCallingAgent([], ScriptedModel([first, wait, "done"]), store=store)
            server.follow(agent)
            before = dict(agent.tools)
            result = agent.run("go")
            events = [one.payload for one in read_events(store, result.run_id) if one.type is EventType.TOOLS_CHANGED]
            assert [(one["added"], one["removed"], one["changed"]) for one in events] == [
                (["added"], ["fail"], ["record"])
            ]
            assert agent.tools["add"] is before["add"]


class TestServer:
    async def test_tools_and_agents_are_served(self) -> None:
        from mcp import Client

        @tool
        def double(n: int) -> int:
            """Double a number."""
            return 2 * n

        @tool
        def boat() -> dict[str, str]:
            """A boat."""
            return {"kind": "wherry"}

        model = ScriptedModel(["forty-two", "forty-three"])
        agent = ToolCallingAgent(
            [], model, name="thinker", description="Thinks.", store=open_store("memory://")
        )  # fmt: skip
        async with Client(mcp_server(double, boat, agent)) as client:
            assert [one.name for one in (await client.list_tools()).tools] == ["double", "boat", "thinker"]
            assert (await client.call_tool("double", {"n": 4})).content[0].text == "8"  # pyright: ignore
            assert (await client.call_tool("boat", {})).structured_content == {"kind": "wherry"}
            assert (await client.call_tool("thinker", {"task": "Think."})).content[0].text == "forty-two"  # pyright: ignore
            for name, arguments in (("double", {"n": "x"}), ("nobody", {}), ("thinker", {"task": " "})):
                assert (await client.call_tool(name, arguments)).is_error

    @pytest.mark.parametrize("things", [(), (5,), (lambda: 1,)])
    def test_what_cannot_be_served(self, things: tuple[object, ...]) -> None:
        with pytest.raises(ConfigurationError):
            mcp_server(*things)

    def test_an_agent_without_a_name(self) -> None:
        with pytest.raises(ConfigurationError, match="name or description"):
            mcp_server(ToolCallingAgent([], ScriptedModel([])))

    def test_two_of_one_name(self) -> None:
        @tool
        def double(n: int) -> int:
            """Double a number."""
            return 2 * n

        with pytest.raises(ConfigurationError, match="two things"):
            mcp_server(double, double)

    def test_not_for_everybody(self) -> None:
        @tool
        def double(n: int) -> int:
            """Double a number."""
            return 2 * n

        server = mcp_server(double)
        with pytest.raises(ConfigurationError, match="whatever anybody asks"):
            mcp_app(server, host="0.0.0.0")
        with pytest.raises(ConfigurationError, match="at least 16"):
            mcp_app(server, host="0.0.0.0", token="short")

    @pytest.mark.parametrize("transport", ["stdio", "http"])
    async def test_our_client_and_our_server(self, transport: str, tmp_path: Path) -> None:
        port, token = free_port(), "a-token-of-some-length"
        program = tmp_path / "serving.py"
        program.write_text(
            "from wherry import tool\nfrom wherry.tools.mcp_server import serve_mcp\n"
            "@tool\ndef double(n: int) -> int:\n    'Double.'\n    return 2 * n\n"
            + f"serve_mcp(double, transport={transport!r}, port={port}, token={token!r})\n"
        )
        if transport == "stdio":
            async with mcp_tools([sys.executable, str(program)], connect_seconds=PATIENT) as server:
                assert await call(server, "double", n=4) == "8"
            return
        process = subprocess.Popen([sys.executable, str(program)])
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None
                    await asyncio.sleep(0.01)
            url = f"http://127.0.0.1:{port}/mcp"
            with pytest.raises(ToolError, match="connected to"):
                await mcp_tools(url, connect_seconds=PATIENT).__aenter__()
            async with mcp_tools(url, headers={"Authorization": f"Bearer {token}"}, connect_seconds=PATIENT) as server:
                assert await call(server, "double", n=4) == "8"
        finally:
            process.kill()
            process.wait(PATIENT)
