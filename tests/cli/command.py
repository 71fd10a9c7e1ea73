"""The command as users start it: in a process of its own, in an empty folder, with a store of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

AGENTS = '''
"""Agents with scripted models, as a user's file would have them."""

from wherry import CodeAgent, FunctionModel, ScriptedModel, ToolCallingAgent, tool
from wherry.errors import ConfigurationError
from wherry.messages import ToolCall
from wherry.models import ModelReply


def call(number, name, **arguments):
    return ModelReply(tool_calls=[ToolCall(str(number), name, arguments)])


@tool
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: the other
    """
    return a + b


def helper():
    replies = [call(1, "add", a=1, b=2), call(2, "final_answer", answer="three")]
    return ToolCallingAgent([add], ScriptedModel(replies), name="helper", description="Adds.")


def crew():
    replies = [call(1, "helper", task="add 1 and 2"), call(2, "final_answer", answer={"sum": 3})]
    return ToolCallingAgent([], ScriptedModel(replies), name="boss", managed_agents=[helper()])


def code():
    return CodeAgent([], ScriptedModel(["```python\\nx = 6 * 7\\nprint(x)\\n```", "```python\\nfinal_answer(x)\\n```"]))


def endless():
    def answer(request):
        return call(1, "add", a=1, b=1) if request.tools else "gave up"

    return ToolCallingAgent([add], FunctionModel(answer))


def echo():
    def answer(request):
        return call(1, "final_answer", answer=f"heard {request.messages[-1].content}")

    return ToolCallingAgent([], FunctionModel(answer))


def talkative():
    replies = [*(call(n, "add", a=n, b=n) for n in range(400)), call(401, "final_answer", answer="x")]
    return ToolCallingAgent([add], ScriptedModel(replies), max_steps=500)


async def _hang(request):
    import anyio
    await anyio.sleep_forever()


def hanging():
    return ToolCallingAgent([], FunctionModel(_hang), name="sleeper")


def looping():
    return CodeAgent([], ScriptedModel(["```python\\nwhile True:\\n    pass\\n```"]), name="sleeper")


@tool
async def nap() -> str:
    """Sleep for ever."""
    import anyio
    await anyio.sleep_forever()


@tool
def heavy_nap() -> str:
    """Sleep in a thread."""
    import time
    time.sleep(3600)


def sleeping():
    return ToolCallingAgent([nap], ScriptedModel([call(1, "nap")]), name="sleeper")


def sleeping_hard():
    return ToolCallingAgent([heavy_nap], ScriptedModel([call(1, "heavy_nap")]), name="sleeper")


def wants(model="none given"):
    return ToolCallingAgent([], FunctionModel(lambda request: call(1, "final_answer", answer=f"model={model}")))


async def _read_a_line(request):
    import anyio
    import sys
    line = await anyio.to_thread.run_sync(sys.stdin.readline)
    return call(1, "final_answer", answer=line.strip())


def reading():
    return ToolCallingAgent([], FunctionModel(_read_a_line))


COLUMNS = "name\\tsize  \\n\\x1b[2Jx\\t1"


def columns():
    return ToolCallingAgent([], ScriptedModel([call(1, "final_answer", answer=COLUMNS)]))


def large():
    answer = {"rows": list(range(30_000))}
    return ToolCallingAgent([], ScriptedModel([call(1, "final_answer", answer=answer)]))


def stored():
    replies = [call(1, "final_answer", answer="kept")]
    return ToolCallingAgent([], ScriptedModel(replies), store="sqlite:///own.db")


def leaves():
    raise SystemExit(0)


def no_agent():
    return 42


def broken():
    raise ZeroDivisionError("in the user's own code")


def refuses():
    raise ConfigurationError("not like this", hint="like that")


def failing():
    return ToolCallingAgent([], ScriptedModel([]))


made = echo()
number = 42
'''


class Command:
    """`wherry`, with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "SYSTEMROOT") if key in os.environ}
        self.environment = {
            **keep,
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "TMPDIR": str(folder),
            "COLUMNS": "120",
            "PYTHONIOENCODING": "utf-8",
        }

    def __call__(
        self, *arguments: str, text: str = "", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "wherry", *arguments],
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def on_a_terminal(self, *arguments: str) -> bytes:
        """What a terminal would get; it must be all well."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "wherry", *arguments],
            cwd=self.folder,
            env={**self.environment, "TERM": "xterm-256color"},
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=subprocess.PIPE,
        )
        os.close(follower)
        written = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # Linux: the other end was closed
                break
            if not piece:
                break
            written += piece
        os.close(leader)
        assert process.stderr is not None
        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0
        return written

    def start(self, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Under way, in a process group of its own."""
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "wherry", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
