"""Ctrl-C in each phase of a run, in a program of its own: it ends at once, no process is left, the journal is whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from wherry import open_store
from wherry.journal import EventType, read_events, verify

PROGRAM = '''
import sys, threading, time
import anyio
from wherry import CodeAgent, FunctionModel, ScriptedModel, ToolCallingAgent, tool
from wherry.messages import ToolCall
from wherry.models import ModelReply

def say(word):
    print(word, flush=True)

@tool
def block() -> str:
    """Never returns."""
    say("ready")
    threading.Event().wait()
    return ""

@tool
async def wait() -> str:
    """Never returns."""
    say("ready")
    await anyio.sleep_forever()
    return ""

@tool
def ready() -> str:
    """Says that the snippet is under way."""
    say("ready")
    return ""

async def hang(request):
    say("ready")
    await anyio.sleep_forever()

def call(name):
    return ModelReply(tool_calls=[ToolCall("c", name, {})])

def code(text):
    return f"```python\\n{text}\\n```"

store = sys.argv[2]
loop = code("ready()\\nwhile True: pass")
agents = {
    "model": lambda: CodeAgent(model=FunctionModel(hang), store=store),
    "sync tool": lambda: ToolCallingAgent([block], ScriptedModel([call("block")]), store=store),
    "async tool": lambda: ToolCallingAgent([wait], ScriptedModel([call("wait")]), store=store),
    "code": lambda: CodeAgent([ready], ScriptedModel([loop]), store=store),
    "tool in code": lambda: CodeAgent([wait], ScriptedModel([code("wait()")]), store=store),
    "managed agent": lambda: CodeAgent(
        model=ScriptedModel([code("worker('x')")]),
        store=store,
        managed_agents=[CodeAgent([ready], ScriptedModel([loop]), name="worker", description="Works.")],
    ),
}
try:
    agents[sys.argv[1]]().run("go")
except KeyboardInterrupt:
    say("interrupted")
    sys.exit(130)
'''


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["model", "sync tool", "async tool", "code", "tool in code", "managed agent"])
def test_an_interrupt_ends_the_run_and_leaves_nothing(tmp_path: Path, phase: str) -> None:
    url = f"sqlite:///{tmp_path / 'wherry.db'}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, phase, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    helpers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "interrupted\n", "")
    _, alive = psutil.wait_procs(helpers, timeout=10)
    assert not alive
    store = open_store(url)
    runs = store.runs(children=True)
    assert {run.status for run in runs} == {"cancelled"}
    assert len(runs) == (2 if phase == "managed agent" else 1)
    for run in runs:
        assert verify(store, run.run_id) is None
        assert list(read_events(store, run.run_id))[-1].type is EventType.RUN_FINISHED
    store.close()
